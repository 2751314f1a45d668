"""Trains and validates with Lightning, which saves to disk and logs to a CSV file meanwhile."""

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Regression(lightning.LightningModule):
    """A small network that says each loss."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 1))

    def training_step(self, batch, index):
        """Return the loss of a batch, and say it."""
        inputs, targets = batch
        loss = nn.functional.mse_loss(self.network(inputs).squeeze(1), targets)
        print("step", self.global_step, loss.item().hex(), flush=True)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, index):
        """Log the loss of a batch."""
        inputs, targets = batch
        self.log("validation", nn.functional.mse_loss(self.network(inputs).squeeze(1), targets))

    def configure_optimizers(self):
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main():
    lightning.seed_everything(1, verbose=False)
    torch.set_num_threads(2)
    inputs = torch.randn(4096, 64)
    data = TensorDataset(inputs, inputs.sum(dim=1).sin())
    folder = "/var/tmp/lightning"
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=4,
        deterministic=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=CSVLogger(folder),
        callbacks=[ModelCheckpoint(folder, monitor="validation", save_top_k=2)],
    )
    trainer.fit(
        Regression(),
        DataLoader(data, batch_size=64, shuffle=True, num_workers=1, persistent_workers=True),
        DataLoader(data, batch_size=512),
    )
    print("validation", float(trainer.callback_metrics["validation"]).hex())


if __name__ == "__main__":
    main()
