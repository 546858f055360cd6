"""Kernels of sessions: a zygote that forks them, and what runs in a fork.

- `zygote`: the process that loads everything once and forks. `keeper`: the process between it and a kernel.
- `wire`: Jupyter messages in their v1 binary form on a socket. `confine`: what a fork gives up.
  `watch`: what kernels use together. `room`: what keeps forks from copying what they share.
- `loop`: requests and their answers. `output`: what code prints, gathered.
- `sage`: what sessions of Sage Cell have beyond Jupyter. `interact`: functions that run again when controls change. `controls`,
  `sliders`: those; `automatic`: from the defaults of parameters. `files`: what is new. `languages`: others than Python.
- `ipython`: a shell of IPython, where it is installed. `plain`: one of the standard library, where it is not.
"""
