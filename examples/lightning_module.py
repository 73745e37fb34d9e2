"""OPeN in a LightningModule.

Lines that end in `# +` are what OPeN adds; a comment that begins with `# - ` is a line of the plain
module that the marked lines after it replace. Lightning names the epoch to the sampler itself; with
several processes it shares the sampler out too, and each process needs a seed of its own for its
noise: `pn.PureNoise(..., seed=self.global_rank)`.
"""

import argparse

import lightning
import numpy as np
import torch
from digits_lt import MEAN, STD, long_tailed_digits
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import purenoise as pn  # +
from purenoise.models import build_model


class Classifier(lightning.LightningModule):
    def __init__(self, model, epochs, images, labels):
        super().__init__()
        self.model, self.first_drop = model, int(0.8 * epochs)
        statistics = pn.pixel_statistics([images])  # +
        self.noise = pn.PureNoise(np.bincount(labels), *statistics, normalize=(MEAN, STD))  # +
        pn.convert(model)  # +

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=2e-4)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [self.first_drop], gamma=0.1)
        return [optimizer], [schedule]

    def training_step(self, batch, batch_idx):
        x, y = batch
        # - logits = self.model(x)
        self.noise.active = self.current_epoch >= self.first_drop  # +
        logits, y = self.noise(self.model, x, y)  # +
        return F.cross_entropy(logits, y)

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("accuracy", (self.model(x).argmax(1) == y).float().mean(), batch_size=len(x))


def data_set(images, labels):
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
    return TensorDataset((torch.from_numpy(images) / 255 - mean) / std, torch.from_numpy(labels))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--accelerator", default="cpu")
    args = parser.parse_args()
    lightning.seed_everything(0)

    images, labels, *test_arrays = long_tailed_digits()
    print("training images per class:", np.bincount(labels))
    train, test = data_set(images, labels), data_set(*test_arrays)
    module = Classifier(build_model("small_cnn", 10, in_channels=1), args.epochs, images, labels)
    # - loader = DataLoader(train, args.batch_size, shuffle=True)
    sampler = pn.DeferredSampler(labels, start=module.first_drop)  # +
    loader = DataLoader(train, args.batch_size, sampler=sampler)  # +
    trainer = lightning.Trainer(
        max_epochs=args.epochs, accelerator=args.accelerator, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)

    pn.revert(module.model)  # +
    print(f"noise rows: {module.noise.made}")  # +
    (result,) = trainer.test(module, DataLoader(test, batch_size=500), verbose=False)
    print(f"test accuracy: {result['accuracy']:.3f}")
    names = {type(m).__name__ for m in module.model.modules() if "Norm" in type(m).__name__}
    print("batch norms:", names)


if __name__ == "__main__":
    main()
