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
from harness_analysis.routing.finetuned.libraries import Torch, padded, text_model

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
        return cls(*text_model(path, who))

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
        pairs = list(zip(questions, answers, strict=True))
        ids = padded(torch, [[*q, *a] for q, a in pairs], 0)
        answered = padded(torch, [[0] * len(q) + [1] * len(a) for q, a in pairs], 0).bool()
        return ids, answered

    def loss(self, instruction: str, queries: Sequence[str], endings: Sequence[Ending]) -> Torch:
        """Return the cross entropy of each query's own ending, mean over the answers' tokens, with gradients."""
        torch = self.torch
        befores = [
            [*self.prefix(instruction, query), *self.tokens(ending.question)]
            for query, ending in zip(queries, endings, strict=True)
        ]
        rows = [(before, self.tokens(e.answer)) for before, e in zip(befores, endings, strict=True)]
        ids = padded(torch, [[*before, *answer] for before, answer in rows], 0)
        seen = padded(torch, [[1] * (len(before) + len(answer)) for before, answer in rows], 0)
        labels = padded(torch, [[IGNORED] * len(before) + answer for before, answer in rows], IGNORED)
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
