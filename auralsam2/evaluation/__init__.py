"""How good masks are: the metrics of AVSBench and Ref-AVS, and the loop that scores a model with them."""
