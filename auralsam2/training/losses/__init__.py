"""What is asked of the network: the paper's losses on masks and on sound."""
