"""Where datasets come from: one module a source, looked up by its name. It defines

    FetchConfig    a frozen dataclass, datasets.<dataset>.fetch of params.yaml
    fetch(config, out, kept, where)         write the raw files into the folder `out`; what was downloaded may stay in the
                                            folder `kept` until all of it has come
    PrepareConfig  a frozen dataclass, datasets.<dataset>.preprocess
    prepare(config, raw, out, seed, where)  from the folder `raw` that `fetch` filled, write images, captions and a vocabulary
                                            with `out` (text2image.data.writer); `seed` is that of params.yaml

`where` is the dotted path of the parameters, for messages. What cannot be used is listed by text2image.files.skipped.
"""
