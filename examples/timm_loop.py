"""OPeN with a timm model, optimiser and schedule, in a loop of one's own.

Lines that end in `# +` are what OPeN adds; a comment that begins with `# - ` is a line of the plain
loop that the marked lines after it replace. timm's layers that hold norm and activation together
(BatchNormAct2d) are converted too.
"""

import argparse

import numpy as np
import timm
import torch
from digits_lt import MEAN, STD, long_tailed_digits
from timm.optim import create_optimizer_v2
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import purenoise as pn  # +


def data_set(images, labels):
    """Scale to [0, 1], enlarge to 32 x 32 pixels, normalise."""
    x = F.interpolate(torch.from_numpy(images) / 255, scale_factor=4, mode="bilinear")
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
    return TensorDataset((x - mean) / std, torch.from_numpy(labels))


def evaluate(model, test):
    model.eval()
    with torch.inference_mode():
        hits = [model(x).argmax(1) == y for x, y in DataLoader(test, batch_size=250)]
    return torch.cat(hits).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="test_resnet", help="any timm name")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args()
    torch.manual_seed(0)

    images, labels, *test_arrays = long_tailed_digits()
    counts = np.bincount(labels)
    print("training images per class:", counts)
    train, test = data_set(images, labels), data_set(*test_arrays)
    model = timm.create_model(args.model, pretrained=False, in_chans=1, num_classes=10)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=3e-3, weight_decay=0.05)
    first_drop = int(0.8 * args.epochs)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [first_drop], gamma=0.1)
    # - loader = DataLoader(train, args.batch_size, shuffle=True)
    sampler = pn.DeferredSampler(labels, start=first_drop)  # +
    loader = DataLoader(train, args.batch_size, sampler=sampler)  # +
    noise = pn.PureNoise(counts, *pn.pixel_statistics([images]), normalize=(MEAN, STD))  # +
    pn.convert(model)  # +

    for epoch in range(args.epochs):
        model.train()
        noise.active = epoch >= first_drop  # +
        total = 0.0
        for x, y in loader:
            # - logits = model(x)
            logits, y = noise(model, x, y)  # +
            loss = F.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        schedule.step()
        print(f"epoch {epoch + 1}: loss {total / len(loader):.3f}")

    pn.revert(model)  # +
    print(f"noise rows: {noise.made}")  # +
    print(f"test accuracy: {evaluate(model, test):.3f}")
    print("batch norms:", {type(m).__name__ for m in model.modules() if "Norm" in type(m).__name__})


if __name__ == "__main__":
    main()
