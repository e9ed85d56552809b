// The kinds of models that this page runs: for each its configuration, and the tensors that drawing takes.
//
// Letter code: K words of the vocabulary, M units of a direction of the caption encoder, S numbers of a caption's vector (2M,
// or 0), U units of LSTM^gen, V of LSTM^infer, A of align, D latent, C channels, H W image, N read window, p write window.

export const SWITCHES = ["backward_words", "filter_grid", "window_centre", "filter_sum", "posterior_scale", "prior_bias"];

// Ranges of the configuration's numbers; those of Python's dataclasses.
const NUMBERS = {
  channels: [1, 64], height: [1, 4096], width: [1, 4096], glimpses: [1, 10000], infer_units: [1, 100000],
  generate_units: [1, 100000], latent: [1, 100000], read_window: [1, 1024], write_window: [1, 1024],
};
export const REALS = { init_std: [1e-12, 100], canvas_init: [-100, 100] };
const PRESET = { preset: ["paper", "released"] };

/** Whether a switch of a configuration stands at the released code's side. */
export function released(config, name) {
  const value = config.switches?.[name] ?? "preset";
  return (value === "preset" ? config.preset : value) === "released";
}

/** Tensors of what every kind shares. S is 0 where the model reads no caption. */
function glimpseTensors(c, S) {
  const { infer_units: V, generate_units: U, latent: D, channels: C } = c;
  return {
    "generate.weight_input": [4 * U, D + S], "generate.weight_hidden": [4 * U, U], "generate.bias": [4 * U],
    "prior.weight": [2 * D, U], ...(released(c, "prior_bias") && { "prior.bias": [2 * D] }),
    "write.weight": [5, U], "write.bias": [5], "patch.weight": [c.write_window ** 2 * C, U], "patch.bias": [c.write_window ** 2 * C],
    "h0_generate": [1, U], "c0": [1, c.height, C, c.width],
    "read.weight": [5, U], "read.bias": [5], "h0_infer": [1, V],
    "infer.weight_input": [4 * V, 2 * C * c.read_window ** 2 + U], "infer.weight_hidden": [4 * V, V], "infer.bias": [4 * V],
    "posterior.weight": [2 * D, V], "posterior.bias": [2 * D],
  };
}

/** Tensors of the inference network, which looks at an image: no drawing takes them, and a file may leave them out. */
export const OF_INFERENCE = /^(read|infer|posterior)\.|^h0_infer$/;

function encoderTensors(K, M) {
  const direction = (name) => ({ [`caption_encoder.${name}.table`]: [K, 4 * M], [`caption_encoder.${name}.weight_hidden`]: [4 * M, M],
                                 [`caption_encoder.${name}.bias`]: [4 * M] });
  return { ...direction("forward_lstm"), ...direction("backward_lstm"), "caption_encoder.h0": [1, M] };
}

/**
 * By the name in a checkpoint: `reads` captions how; of the configuration the whole `numbers`, and what it has of `choices`; the
 * `tensors` by K.
 */
export const KINDS = {
  align_draw: {
    reads: "attends to each word",
    numbers: { ...NUMBERS, language_units: [1, 100000], align_units: [1, 100000] },
    choices: PRESET,
    tensors: (c, K) => ({
      ...encoderTensors(K, c.language_units), ...glimpseTensors(c, 2 * c.language_units),
      "align.language": [c.align_units, 2 * c.language_units], "align.generate.weight": [c.align_units, c.generate_units],
      "align.generate.bias": [c.align_units], "align.v": [c.align_units],
    }),
  },
  noalign: {
    reads: "reads a caption as one vector",
    numbers: { ...NUMBERS, language_units: [1, 100000] },
    choices: PRESET,
    tensors: (c, K) => ({ ...encoderTensors(K, c.language_units), ...glimpseTensors(c, 2 * c.language_units) }),
  },
  draw: {
    reads: "reads no caption",
    numbers: NUMBERS,
    choices: { ...PRESET, prior: ["learned", "fixed"] },
    tensors: (c) => glimpseTensors(c, 0),
  },
};
