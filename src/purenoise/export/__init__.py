"""Trained networks for use elsewhere: plain weights, ONNX, ``torch.export``, and a model card.

All three files take what a camera gives, images in [0, 1], and answer with logits: normalisation
lies inside the graphs, and its constants in the header of the weights. Each is read again and held
against the run's own network before it is there.
"""
