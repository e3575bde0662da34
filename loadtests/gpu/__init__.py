"""How fast a clip is on a card: the published implementation, our network in each form, the kernels, the service.

Needs PyTorch, Triton, NumPy, the sam2 package and what that imports. The rows of the service need the server as well;
a row that cannot run here says why, and the others run.
"""
