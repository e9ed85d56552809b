"""Small networks that tell what images show: judges of what a model draws, and features for nearest neighbours."""
