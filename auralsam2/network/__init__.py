"""The parts of the network in plain PyTorch: sound, pictures, fusion, memory, masks, and one clip through them."""
