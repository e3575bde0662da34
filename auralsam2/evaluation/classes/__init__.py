"""How well what sounds is named: the metric of AVSBench's semantic split, what is judged with it, and a picture."""
