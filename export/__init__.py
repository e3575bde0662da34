"""From the network to graphs and a filled model repository, each artifact proven equal to the network."""
