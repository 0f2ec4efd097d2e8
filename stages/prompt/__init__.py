"""Caption -> the prompt, rewritten by a language model if one is asked for."""
