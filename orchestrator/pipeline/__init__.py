"""What a profile says: layers of settings, nodes, graph, budget."""
