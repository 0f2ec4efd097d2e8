"""Pages for people: what a run made and how, a batch's gallery, runs side by side."""
