"""Meta knowledge distillation: one teacher for many domains, one small student for each of them."""

__version__ = "0.3.0"
