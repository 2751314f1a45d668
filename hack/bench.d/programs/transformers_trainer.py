"""Fine-tunes a tiny GPT-2 that is made on the spot, by the Trainer of Transformers, which also saves to disk."""

import hashlib

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments


class Sentences(Dataset):
    """Sequences that count in steps of different lengths."""

    def __len__(self):
        return 512

    def __getitem__(self, index):
        tokens = (torch.arange(48) * (index % 7 + 1) + index) % 256
        return {"input_ids": tokens, "labels": tokens}


class Telling(TrainerCallback):
    """Prints what is logged."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Say it."""
        if "loss" in (logs or {}):
            print("step", state.global_step, float(logs["loss"]).hex(), flush=True)


def main():
    torch.manual_seed(1)
    torch.set_num_threads(2)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_positions=64, n_embd=64, n_layer=2, n_head=4))
    arguments = TrainingArguments(
        output_dir="/var/tmp/trainer",
        max_steps=40,
        per_device_train_batch_size=16,
        logging_steps=1,
        save_steps=15,
        save_total_limit=2,
        dataloader_num_workers=2,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=1,
        full_determinism=True,
    )
    Trainer(model=model, args=arguments, train_dataset=Sentences(), callbacks=[Telling()]).train()
    weights = b"".join(parameter.detach().numpy().tobytes() for parameter in model.parameters())
    print("weights", hashlib.sha256(weights).hexdigest())


if __name__ == "__main__":
    main()
