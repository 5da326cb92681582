"""How well a node, a component, a region, the network is: scores with their evidence."""
