"""OPeN in a plain PyTorch loop.

Lines that end in `# +` are what OPeN adds; a comment that begins with `# - ` is a line of the plain
loop that the marked lines after it replace.
"""

import argparse

import numpy as np
import torch
from digits_lt import MEAN, STD, long_tailed_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import purenoise as pn  # +


def small_net(n_classes):
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 16, n_classes),
    )  # fmt: skip


def data_set(images, labels):
    """Scale, normalise, pair with labels; a data set with transforms of its own does as well."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
    return TensorDataset((torch.from_numpy(images) / 255 - mean) / std, torch.from_numpy(labels))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args()
    torch.manual_seed(0)

    images, labels, *test_arrays = long_tailed_digits()
    counts = np.bincount(labels)
    print("training images per class:", counts)
    train, test = data_set(images, labels), data_set(*test_arrays)
    model = small_net(n_classes=10)
    first_drop = int(0.8 * args.epochs)
    # - loader = DataLoader(train, args.batch_size, shuffle=True)
    sampler = pn.DeferredSampler(labels, start=first_drop)  # +
    loader = DataLoader(train, args.batch_size, sampler=sampler)  # +
    noise = pn.PureNoise(counts, *pn.pixel_statistics([images]), normalize=(MEAN, STD))  # +
    pn.convert(model)  # +
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=2e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [first_drop], gamma=0.1)

    for epoch in range(args.epochs):
        model.train()
        noise.active = epoch >= first_drop  # +
        total = 0.0
        for x, y in loader:
            # - logits = model(x)
            logits, y = noise(model, x, y)  # +
            loss = nn.functional.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        schedule.step()
        print(f"epoch {epoch + 1}: loss {total / len(loader):.3f}")

    pn.revert(model)  # +
    print(f"noise rows: {noise.made}")  # +
    model.eval()
    with torch.inference_mode():
        right = model(test.tensors[0]).argmax(1) == test.tensors[1]
    print(f"test accuracy: {right.float().mean():.3f}")
    print("batch norms:", {type(m).__name__ for m in model.modules() if "Norm" in type(m).__name__})


if __name__ == "__main__":
    main()
