"""Matrix factorisation by gradient descent: EmbedLLM's on verdicts, RouteLLM's on which of two models did better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.routing.descent import DescentRouter, Loss, noisy
from harness_analysis.routing.finetuned.libraries import Torch
from harness_analysis.routing.win_rates import decided, logistic, mean_win_rates, surprise_of_wins


@dataclass
class EmbedLlm(DescentRouter):
    """P(model m answers query q) as a logistic function of c (u_m * (W q + a)) + b_m, all learned by Adam.

    EmbedLLM's classifier tells two classes by a softmax, which is the logistic function of one difference; the vector c
    is part of u_m here, and b_m lets a model be good whatever is asked. Noise on the embeddings keeps it from learning
    them by heart.

    Args:
        rank: latent dimensions.
        noise: standard deviation of the noise relative to an embedding's length, spread over its dimensions.

    Source: "Who routes the router", appendix E (collaborative filtering), and EmbedLLM.
    """

    name: str = "mf-embedllm"
    votes: bool = False
    rank: int = 64
    noise: float = 0.3

    def _constant(self, training: OutcomeMatrix) -> FloatArray | None:
        # Nothing varies with the query; the logistic function would approach the constants and never reach them.
        return training.correct[0] if np.ptp(training.correct, axis=0).max() == 0 else None

    def _net(self, torch: Torch, vectors: Any, verdicts: Any) -> tuple[Any, Loss]:
        m = verdicts.shape[1]
        net = torch.nn.ParameterDict(
            {
                "models": torch.randn(m, self.rank) / self.rank**0.5,
                "project": torch.randn(self.rank, vectors.shape[1]),
                "project_bias": torch.zeros(self.rank),
                "bias": torch.zeros(m),
            }
        )

        def loss_of(at: IntArray, training_now: bool) -> Any:
            asked = noisy(torch, vectors[at], self.noise) if training_now else vectors[at]
            latent = asked @ net["project"].T + net["project_bias"]
            logits = latent @ net["models"].T + net["bias"]
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, verdicts[at])

        return net, loss_of

    def _scored(self, weights: dict[str, FloatArray], embeddings: FloatArray) -> FloatArray:
        latent = embeddings @ weights["project"].T + weights["project_bias"]
        return logistic(latent @ weights["models"].T + weights["bias"])


@dataclass
class RouteLlmFactorisation(DescentRouter):
    """P(a beats b on q) = logistic(d_a(q) - d_b(q)) with d_m(q) = c (u_m / |u_m| * (W q)), learned by Adam.

    RouteLLM learns it on people's preferences and asks it for one pair: how often the large model wins. Here a model
    wins a query where its score is higher than the other's, ties are left out as there, and for a pool a model's score
    is its mean chance against each other model. For a pair that is RouteLLM's win rate.

    Args:
        rank: latent dimensions.
        noise: as for `EmbedLlm`.

    Source: RouteLLM section 4.2 (matrix factorisation), a rival of MESS+ section 4.1.
    """

    name: str = "mf-routellm"
    rank: int = 64
    noise: float = 0.3

    def _constant(self, training: OutcomeMatrix) -> FloatArray | None:
        return None if decided(training.correct).size else np.full(len(training.models), 0.5)

    def _rows(self, training: OutcomeMatrix) -> IntArray:
        return decided(training.correct)

    def _net(self, torch: Torch, vectors: Any, verdicts: Any) -> tuple[Any, Loss]:
        net = torch.nn.ParameterDict(
            {
                "models": torch.randn(verdicts.shape[1], self.rank),
                "project": torch.randn(self.rank, vectors.shape[1]),
                "classify": torch.randn(self.rank) / self.rank**0.5,
            }
        )

        def loss_of(at: IntArray, training_now: bool) -> Any:
            asked = noisy(torch, vectors[at], self.noise) if training_now else vectors[at]
            unit = torch.nn.functional.normalize(net["models"], dim=1)
            strength = (asked @ net["project"].T * net["classify"]) @ unit.T
            return surprise_of_wins(torch, strength, verdicts[at])

        return net, loss_of

    def _scored(self, weights: dict[str, FloatArray], embeddings: FloatArray) -> FloatArray:
        unit = weights["models"] / np.linalg.norm(weights["models"], axis=1, keepdims=True)
        return mean_win_rates(embeddings @ weights["project"].T @ (unit * weights["classify"]).T)
