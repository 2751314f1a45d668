"""Trains byte-pair tokenizers of Hugging Face in their own threads, and encodes a text with each."""

import hashlib
import random

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.trainers import BpeTrainer

words = ["".join(random.Random(number).choices("aeioubcdfgklmnprst", k=3 + number % 9)) for number in range(4000)]
for step in range(50):
    order = random.Random(step)
    text = [" ".join(order.choices(words, k=40)) for _ in range(1000)]
    tokenizer = Tokenizer(BPE(unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.train_from_iterator(text, BpeTrainer(vocab_size=600, special_tokens=["?"], show_progress=False))
    # The merges of equal counts may come in any order; what they come to does not depend on it.
    lengths = [len(found.ids) for found in tokenizer.encode_batch(text)]
    print("step", step, tokenizer.get_vocab_size(), hashlib.sha256(str(lengths).encode()).hexdigest(), flush=True)
