"""OPeN in Hugging Face's Trainer.

Lines that end in `# +` are what OPeN adds; a comment that begins with `# - ` is a line of the plain
script that the marked lines after it replace. The Trainer needs a subclass, because rows and labels
come back in another order: `compute_loss` runs both passes, and the sampler is a method of it. The
Trainer names the epoch to the sampler itself.
"""

import argparse
import tempfile

import numpy as np
import torch
from digits_lt import MEAN, STD, long_tailed_digits
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

import purenoise as pn  # +


class OPeNTrainer(Trainer):  # +
    def _get_train_sampler(self, train_dataset=None):  # +
        return pn.DeferredSampler(self.train_dataset.labels, start=self.first_drop)  # +

    def compute_loss(self, model, inputs, return_outputs=False, **_):  # +
        self.noise.active = self.state.epoch >= self.first_drop  # +
        logits, labels = self.noise(model, inputs["pixel_values"], inputs["labels"])  # +
        loss = F.cross_entropy(logits, labels)  # +
        return (loss, {"logits": logits}) if return_outputs else loss  # +


class Digits(Dataset):
    def __init__(self, images, labels):
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
        self.images, self.labels = (torch.from_numpy(images) / 255 - mean) / std, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"pixel_values": self.images[index], "labels": int(self.labels[index])}


def accuracy(prediction):
    return {"accuracy": float(np.mean(prediction.predictions.argmax(1) == prediction.label_ids))}


def train(args, folder):
    set_seed(0)
    images, labels, *test_arrays = long_tailed_digits()
    counts = np.bincount(labels)
    print("training images per class:", counts)
    config = ResNetConfig(num_channels=1, embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1],
                          layer_type="basic", num_labels=10)  # fmt: skip
    model = ResNetForImageClassification(config)
    first_drop = int(0.8 * args.epochs)
    steps = -(-len(labels) // args.batch_size)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=2e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [first_drop * steps], gamma=0.1)
    settings = TrainingArguments(
        folder, num_train_epochs=args.epochs, per_device_train_batch_size=args.batch_size,
        seed=0, save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=not args.gpu,
        remove_unused_columns=False, logging_strategy="epoch",
    )  # fmt: skip
    parts = {
        "model": model, "args": settings, "compute_metrics": accuracy,
        "train_dataset": Digits(images, labels), "eval_dataset": Digits(*test_arrays),
        "optimizers": (optimizer, schedule),
    }  # fmt: skip
    # - trainer = Trainer(**parts)
    pn.convert(model)  # +
    trainer = OPeNTrainer(**parts)  # +
    noise = pn.PureNoise(counts, *pn.pixel_statistics([images]), normalize=(MEAN, STD))  # +
    trainer.noise, trainer.first_drop = noise, first_drop  # +
    trainer.train()

    pn.revert(model)  # +
    print(f"noise rows: {noise.made}")  # +
    print(f"test accuracy: {trainer.evaluate()['eval_accuracy']:.3f}")
    print("batch norms:", {type(m).__name__ for m in model.modules() if "Norm" in type(m).__name__})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--gpu", action="store_true")
    with tempfile.TemporaryDirectory() as folder:
        train(parser.parse_args(), folder)


if __name__ == "__main__":
    main()
