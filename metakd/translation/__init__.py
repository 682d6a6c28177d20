"""Translation: an encoder-decoder distilled at the level of tokens and of whole translations."""
