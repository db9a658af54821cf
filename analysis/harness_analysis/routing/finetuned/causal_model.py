"""A causal language model: likelihoods of endings after a query, and the loss that trains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness_analysis.embedding.quiet import quiet
from harness_analysis.outcomes.matrix import FloatArray
from harness_analysis.routing.finetuned.decoder_prompts import Ending
from harness_analysis.routing.finetuned.libraries import (
    Torch,
    device_of,
    library,
    loading,
    model_folder,
)

MAX_QUERY_TOKENS = 512
"""Longer queries lose their end: what a router sees is bounded."""
IGNORED = -100
_SCORING_BATCH = 16


@dataclass
class CausalModel:
    """A causal model with its tokeniser.

    Args:
        torch: the library.
        model: of transformers, in float32.
        tokeniser: of transformers.
        device: of the model.
    """

    torch: Torch
    model: Any
    tokeniser: Any
    device: str

    @classmethod
    def load(cls, path: str | Path, who: str) -> CausalModel:
        """Load a folder.

        Raises:
            RoutingError: transformers is missing, or the folder holds no causal model with a tokeniser.
        """
        folder = model_folder(path, who)
        torch, found = library("torch", who), library("transformers", who)
        with loading(folder, who):
            device = device_of(torch)
            tokeniser = found.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            model = found.AutoModelForCausalLM.from_pretrained(
                str(folder), dtype=torch.float32, local_files_only=True
            )
        return cls(torch, model.to(device).eval(), tokeniser, device)

    def tokens(self, text: str) -> list[int]:
        """Return a text's tokens without any that mark its start or end."""
        return self.tokeniser(text, add_special_tokens=False, verbose=False)["input_ids"]

    def prefix(self, instruction: str, query: str) -> list[int]:
        """Return the tokens of the start mark (where there is one), the instruction and the query."""
        start = self.tokeniser.bos_token_id
        return [
            *([] if start is None else [start]),
            *self.tokens(instruction),
            *self.tokens(query)[:MAX_QUERY_TOKENS],
        ]

    def log_likelihoods(
        self, instruction: str, queries: Sequence[str], endings: Sequence[Ending]
    ) -> FloatArray:
        """Return log P(answer | instruction, query, question), summed over the answer's tokens; shape (n, endings).

        The query passes the model once; all endings share what it left in the cache.
        """
        parts = [
            self._batch(instruction, queries[at : at + _SCORING_BATCH], endings)
            for at in range(0, len(queries), _SCORING_BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(endings)))

    def _batch(self, instruction: str, queries: Sequence[str], endings: Sequence[Ending]) -> FloatArray:
        torch = self.torch
        prefixes = [self.prefix(instruction, query) for query in queries]
        n, m = len(prefixes), len(endings)
        longest = max(map(len, prefixes))
        # On the left, so that every ending follows its query directly.
        ids = torch.zeros((n, longest), dtype=torch.long)
        seen = torch.zeros((n, longest), dtype=torch.long)
        for row, prefix in enumerate(prefixes):
            ids[row, longest - len(prefix) :] = torch.tensor(prefix)
            seen[row, longest - len(prefix) :] = 1
        ending_ids, answered = self._endings(endings)
        width = ending_ids.shape[1]
        self.model.eval()
        with torch.inference_mode():
            seen = seen.to(self.device)
            positions = (seen.cumsum(1) - 1).clamp(min=0)
            read = self.model(
                input_ids=ids.to(self.device), attention_mask=seen, position_ids=positions, use_cache=True
            )
            cache = read.past_key_values
            cache.batch_repeat_interleave(m)
            tail = ending_ids.repeat(n, 1).to(self.device)
            mask = torch.cat([seen.repeat_interleave(m, 0), torch.ones_like(tail)], dim=1)
            after = positions[:, -1:].repeat_interleave(m, 0) + 1 + torch.arange(width, device=self.device)
            logits = self.model(
                input_ids=tail, attention_mask=mask, position_ids=after, past_key_values=cache, use_cache=True
            ).logits
            chances = torch.log_softmax(logits[:, :-1].float(), dim=-1)
            found = chances.gather(2, tail[:, 1:, None])[..., 0]
            counted = answered[:, 1:].repeat(n, 1).to(self.device)
            total = torch.where(counted, found, 0.0).double().sum(dim=1)
        return total.reshape(n, m).cpu().numpy()

    def _endings(self, endings: Sequence[Ending]) -> tuple[Torch, Torch]:
        """Return tokens of the endings, padded on the right, and which of them belong to the answer."""
        torch = self.torch
        questions = [self.tokens(e.question) for e in endings]
        answers = [self.tokens(e.answer) for e in endings]
        width = max(len(q) + len(a) for q, a in zip(questions, answers, strict=True))
        ids = torch.zeros((len(endings), width), dtype=torch.long)
        answered = torch.zeros((len(endings), width), dtype=torch.bool)
        for row, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            end = len(question) + len(answer)
            ids[row, :end] = torch.tensor([*question, *answer])
            answered[row, len(question) : end] = True
        return ids, answered

    def loss(self, instruction: str, queries: Sequence[str], endings: Sequence[Ending]) -> Torch:
        """Return the cross entropy of each query's own ending, mean over the answers' tokens, with gradients."""
        torch = self.torch
        rows = []
        for query, ending in zip(queries, endings, strict=True):
            before = [*self.prefix(instruction, query), *self.tokens(ending.question)]
            answer = self.tokens(ending.answer)
            rows.append(([*before, *answer], [IGNORED] * len(before) + answer))
        width = max(len(ids) for ids, _ in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        labels = torch.full((len(rows), width), IGNORED, dtype=torch.long)
        seen = torch.zeros((len(rows), width), dtype=torch.long)
        for row, (tokens, wanted) in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            labels[row, : len(tokens)] = torch.tensor(wanted)
            seen[row, : len(tokens)] = 1
        logits = self.model(input_ids=ids.to(self.device), attention_mask=seen.to(self.device)).logits
        flat = logits[:, :-1].reshape(-1, logits.shape[-1]).float()
        return torch.nn.functional.cross_entropy(
            flat, labels[:, 1:].reshape(-1).to(self.device), ignore_index=IGNORED
        )

    def save(self, folder: Path) -> None:
        """Write the model as safetensors, and its tokeniser."""
        with quiet():
            self.model.save_pretrained(str(folder))
            self.tokeniser.save_pretrained(str(folder))
