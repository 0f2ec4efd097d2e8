"""`kiss3d-orchestrate web`: the program in a browser, over `api` and Gradio (the extra "web")."""
