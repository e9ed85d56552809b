"""Where the frozen weights of a sentence encoder come from: one module a kind, looked up by its name. It defines

    sentence_encoder(folder, vocabulary)    an encoder (text2image.models.sentence_encoders) for the words of a vocabulary, with
                                            the weights that the folder holds, or the kind itself knows of
"""
