"""Matrix factorisation by gradient descent: EmbedLLM's on verdicts, RouteLLM's on which of two models did better."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.routing.descent import as_arrays, descend
from harness_analysis.routing.finetuned.libraries import library
from harness_analysis.routing.finetuned.training import Progress, Schedule, one_thread, seeded, silent
from harness_analysis.routing.router import NotFittedError, Queries, check_training, columns_of
from harness_analysis.routing.win_rates import logistic, mean_win_rates

FACTOR_SCHEDULE = Schedule(epochs=60, rate=3e-3, head_rate=3e-3, patience=10, micro_batch=64)


@dataclass
class EmbedLlm:
    """P(model m answers query q) as a logistic function of c (u_m * (W q + a)) + b_m, all learned by Adam.

    EmbedLLM's classifier tells two classes by a softmax, which is the logistic function of one difference; the vector c
    is part of u_m here, and b_m lets a model be good whatever is asked. Noise on the embeddings keeps it from learning
    them by heart. A tenth of the queries chooses the epoch.

    Args:
        rank: latent dimensions.
        noise: standard deviation of the noise relative to an embedding's length, spread over its dimensions.
        schedule: of the training.
        seed: of weights, noise and order.

    Source: "Who routes the router", appendix E (collaborative filtering), and EmbedLLM.
    """

    rank: int = 64
    noise: float = 0.3
    schedule: Schedule = FACTOR_SCHEDULE
    seed: int = 0
    name: str = "mf-embedllm"
    sees_answers: bool = False
    votes: bool = False
    progress: Progress = field(default=silent, repr=False)
    _weights: dict[str, FloatArray] = field(default_factory=dict, repr=False)

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray) -> None:
        """Learn the latent vectors on the cross entropy of every verdict.

        Raises:
            RoutingError: what nothing can be learned from, torch is missing, a loss that becomes NaN.
        """
        check_training(training, embeddings)
        self._weights = {}
        if np.ptp(training.correct, axis=0).max() == 0:
            # Nothing varies with the query; the logistic function would approach the constants and never reach them.
            self._weights["constant"] = training.correct[0]
            return
        torch = library("torch", f"router {self.name}")
        n, d = embeddings.shape
        m = len(training.models)
        vectors = torch.as_tensor(embeddings, dtype=torch.float32)
        verdicts = torch.as_tensor(training.correct, dtype=torch.float32)
        with seeded(torch, self.seed), one_thread(torch):
            net = torch.nn.ParameterDict(
                {
                    "models": torch.randn(m, self.rank) / self.rank**0.5,
                    "project": torch.randn(self.rank, d),
                    "project_bias": torch.zeros(self.rank),
                    "bias": torch.zeros(m),
                }
            )

            def loss_of(at: IntArray, noisy: bool) -> Any:
                asked = vectors[at]
                if noisy:
                    asked = asked + torch.randn_like(asked) * (self.noise / d**0.5)
                latent = asked @ net["project"].T + net["project_bias"]
                logits = latent @ net["models"].T + net["bias"]
                return torch.nn.functional.binary_cross_entropy_with_logits(logits, verdicts[at])

            descend(torch, net, n, loss_of, self)
        self._weights = as_arrays(net)

    def scores(self, queries: Queries) -> FloatArray:
        """Return the chances, shape (n, m)."""
        if not self._weights:
            raise NotFittedError(self.name)
        w = self._weights
        if "constant" in w:
            return columns_of(queries, w["constant"])
        latent = queries.embeddings @ w["project"].T + w["project_bias"]
        return logistic(latent @ w["models"].T + w["bias"])


@dataclass
class RouteLlmFactorisation:
    """P(a beats b on q) = logistic(d_a(q) - d_b(q)) with d_m(q) = c (u_m / |u_m| * (W q)), learned by Adam.

    RouteLLM learns it on people's preferences and asks it for one pair: how often the large model wins. Here a model
    wins a query where its score is higher than the other's, ties are left out as there, and for a pool a model's score
    is its mean chance against each other model. For a pair that is RouteLLM's win rate.

    Args:
        rank: latent dimensions.
        noise: as for `EmbedLlm`.
        schedule: of the training.
        seed: of weights, noise and order.

    Source: RouteLLM section 4.2 (matrix factorisation), a rival of MESS+ section 4.1.
    """

    rank: int = 64
    noise: float = 0.3
    schedule: Schedule = FACTOR_SCHEDULE
    seed: int = 0
    name: str = "mf-routellm"
    sees_answers: bool = False
    votes: bool = True
    progress: Progress = field(default=silent, repr=False)
    _weights: dict[str, FloatArray] = field(default_factory=dict, repr=False)

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray) -> None:
        """Learn from every pair of models that did not do equally well on a query.

        Raises:
            RoutingError: what nothing can be learned from, torch is missing, a loss that becomes NaN.
        """
        check_training(training, embeddings)
        self._weights = {}
        m = len(training.models)
        decided = np.flatnonzero(np.ptp(training.correct, axis=1) > 0)
        if not decided.size:
            self._weights["even"] = np.full(m, 0.5)
            return
        torch = library("torch", f"router {self.name}")
        d = embeddings.shape[1]
        vectors = torch.as_tensor(embeddings[decided], dtype=torch.float32)
        verdicts = torch.as_tensor(training.correct[decided], dtype=torch.float32)
        with seeded(torch, self.seed), one_thread(torch):
            net = torch.nn.ParameterDict(
                {
                    "models": torch.randn(m, self.rank),
                    "project": torch.randn(self.rank, d),
                    "classify": torch.randn(self.rank) / self.rank**0.5,
                }
            )

            def loss_of(at: IntArray, noisy: bool) -> Any:
                asked, verdict = vectors[at], verdicts[at]
                if noisy:
                    asked = asked + torch.randn_like(asked) * (self.noise / d**0.5)
                unit = torch.nn.functional.normalize(net["models"], dim=1)
                strength = (asked @ net["project"].T * net["classify"]) @ unit.T
                won = verdict[:, :, None] > verdict[:, None, :]
                # -log logistic(winner's strength less the loser's)
                surprise = torch.nn.functional.softplus(strength[:, None, :] - strength[:, :, None])
                return (surprise * won).sum() / won.sum()

            descend(torch, net, len(decided), loss_of, self)
        found = as_arrays(net)
        unit = found["models"] / np.linalg.norm(found["models"], axis=1, keepdims=True)
        self._weights = {"strength": (unit * found["classify"]) @ found["project"]}

    def scores(self, queries: Queries) -> FloatArray:
        """Return each model's mean chance against the others, shape (n, m)."""
        if not self._weights:
            raise NotFittedError(self.name)
        if "even" in self._weights:
            return columns_of(queries, self._weights["even"])
        return mean_win_rates(queries.embeddings @ self._weights["strength"].T)
