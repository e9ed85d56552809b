"""What is measured and shown of a trained model: one module a metric, samples, figures."""
