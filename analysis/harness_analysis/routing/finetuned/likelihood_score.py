"""Quality of an answer as its mean log-likelihood under a language model, as the BART score is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray
from harness_analysis.routing.finetuned.causal_model import IGNORED, MAX_QUERY_TOKENS
from harness_analysis.routing.finetuned.libraries import Torch, padded, text_model

_BATCH = 16
_WHO = "the likelihood score"


@dataclass
class LikelihoodScorer:
    """A sequence-to-sequence or causal model that says how likely an answer is given a text.

    Given the reference answer, the score asks whether the answer says the same; given the query, whether it follows
    from it. The BART score is this with a BART fine-tuned on CNN/DailyMail and ParaBank; scores of other weights are
    not comparable with it.

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
    def load(cls, path: str | Path) -> LikelihoodScorer:
        """Load a folder; its configuration says which of the two kinds it is.

        Raises:
            RoutingError: transformers is missing, or the folder holds no such model with a tokeniser.
        """
        return cls(*text_model(path, _WHO, sequence_to_sequence=True))

    def scores(
        self,
        given: Sequence[str],
        answers: Sequence[str],
        progress: Callable[[int], None] = lambda _: None,
    ) -> FloatArray:
        """Return (1 / T) sum over t of log P(y_t | y_1 .. y_(t-1), given) of each answer's T tokens, shape (n,).

        At most 512 tokens of a text and of an answer count. An empty answer has no tokens and no score: NaN.

        Args:
            given: a text for each answer: the reference, or the query.
            answers: texts.
            progress: told the number of answers scored since it was last told.

        Raises:
            RoutingError: not one text for each answer.

        Source: BARTScore (Yuan et al. 2021) with equal weights, the quality of Hybrid LLM section 2.3.
        """
        if len(given) != len(answers):
            raise RoutingError(f"{len(given)} texts were given for {len(answers)} answers")
        found = np.full(len(answers), np.nan)
        at = [i for i, answer in enumerate(answers) if answer.strip()]
        # Texts of like length together, so that little is padding.
        at.sort(key=lambda i: len(given[i]) + len(answers[i]))
        of = self._encoder_decoder if self.model.config.is_encoder_decoder else self._causal
        for start in range(0, len(at), _BATCH):
            rows = at[start : start + _BATCH]
            with self.torch.inference_mode():
                found[rows] = of([given[i] for i in rows], [answers[i] for i in rows])
            progress(len(rows))
        return found

    def _encoder_decoder(self, given: list[str], answers: list[str]) -> FloatArray:
        sources = [self._tokens(text, special=True) for text in given]
        targets = [self._tokens(text, special=True) for text in answers]
        ids, seen = self._padded(sources, 0), self._padded([[1] * len(s) for s in sources], 0)
        labels = self._padded(targets, IGNORED)
        logits = self.model(input_ids=ids, attention_mask=seen, labels=labels).logits
        return self._means(logits, labels)

    def _causal(self, given: list[str], answers: list[str]) -> FloatArray:
        start = self.tokeniser.bos_token_id
        before = [
            [*([] if start is None else [start]), *self._tokens(text), *self._tokens("\n")] for text in given
        ]
        targets = [self._tokens(text) for text in answers]
        ids = [[*b, *t] for b, t in zip(before, targets, strict=True)]
        labels = self._padded([[IGNORED] * len(b) + t for b, t in zip(before, targets, strict=True)], IGNORED)
        logits = self.model(
            input_ids=self._padded(ids, 0), attention_mask=self._padded([[1] * len(i) for i in ids], 0)
        ).logits
        return self._means(logits[:, :-1], labels[:, 1:])

    def _tokens(self, text: str, special: bool = False) -> list[int]:
        return self.tokeniser(
            text, add_special_tokens=special, truncation=True, max_length=MAX_QUERY_TOKENS, verbose=False
        )["input_ids"]

    def _padded(self, rows: list[list[int]], value: int) -> Any:
        return padded(self.torch, rows, value).to(self.device)

    def _means(self, logits: Any, labels: Any) -> FloatArray:
        counted = labels != IGNORED
        chances = self.torch.log_softmax(logits.float(), dim=-1)
        found = chances.gather(2, labels.clamp(min=0)[:, :, None])[..., 0].double()
        total = self.torch.where(counted, found, 0.0).sum(dim=1)
        return (total / counted.sum(dim=1)).cpu().numpy()
