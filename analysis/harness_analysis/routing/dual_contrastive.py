"""RouterDC: a query is pulled to the models that answer it, away from those that do not, and to queries like it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.routing.descent import DescentRouter, Loss
from harness_analysis.routing.finetuned.libraries import Torch
from harness_analysis.routing.finetuned.training import Schedule
from harness_analysis.routing.nearest import distinct

DC_SCHEDULE = Schedule(epochs=40, rate=3e-3, head_rate=3e-3, patience=10, micro_batch=64)


@dataclass
class RouterDc(DescentRouter):
    """The model whose learned vector is most similar to a query's, by cosine, trained by two contrastive losses.

    RouterDC trains a DeBERTa encoder; here embeddings are frozen and a linear projection of them is learned together
    with the models' vectors. Its groups of similar queries come from K-means after t-SNE, here from K-means alone. The
    weights, numbers of positives, negatives and groups are the paper's; the rate is a projection's, not an encoder's.

    Args:
        width: of the projection.
        best: K+, models of a query that attract it: those of its best that answer it (a score of at least one half).
        worst: K-, models that repel it: those of its worst that do not answer it.
        groups: of similar queries.
        others: H, queries of other groups that repel a query.
        weight: lambda, of the loss between queries.

    Source: RouterDC section 3, a rival of MESS+ section 4.1 and appendix B.
    """

    schedule: Schedule = DC_SCHEDULE
    name: str = "router-dc"
    width: int = 64
    best: int = 3
    worst: int = 3
    groups: int = 5
    others: int = 3
    weight: float = 1.0

    def _constant(self, training: OutcomeMatrix) -> FloatArray | None:
        attracts, repels = attracting_and_repelling(training.correct, self.best, self.worst)
        # Where no query tells models apart.
        some = (attracts.any(axis=1) & repels.any(axis=1)).any()
        return None if some else training.correct.mean(axis=0)

    def _net(self, torch: Torch, vectors: Any, verdicts: Any) -> tuple[Any, Loss]:
        attracts, repels = attracting_and_repelling(verdicts.double().numpy(), self.best, self.worst)
        pull, push = torch.as_tensor(attracts), torch.as_tensor(repels)
        d, m = vectors.shape[1], verdicts.shape[1]
        group = _groups(vectors.double().numpy(), self.groups, self.seed)
        random = np.random.default_rng(self.seed)
        net = torch.nn.ParameterDict(
            {"models": torch.randn(m, self.width), "project": torch.randn(self.width, d) / d**0.5}
        )

        def loss_of(at: IntArray, training_now: bool) -> Any:
            asked = vectors[at] @ net["project"].T
            loss = query_model_loss(torch, _cosines(torch, asked, net["models"]), pull[at], push[at])
            # Which epoch is best is a question about models, not about how queries lie.
            if not training_now or np.ptp(group) == 0:
                return loss
            same, different = _partners(group, at, self.others, random)
            near = _cosines_to(torch, asked, vectors[same] @ net["project"].T)
            far = _cosines_to(torch, asked, vectors[different] @ net["project"].T)
            return loss + self.weight * query_query_loss(torch, near, far)

        return net, loss_of

    def _scored(self, weights: dict[str, FloatArray], embeddings: FloatArray) -> FloatArray:
        asked = embeddings @ weights["project"].T
        # A query without a known word has the vector 0, which is equally far from every model.
        length = np.maximum(np.linalg.norm(asked, axis=1, keepdims=True), 1e-12)
        unit = weights["models"] / np.linalg.norm(weights["models"], axis=1, keepdims=True)
        # (1 + cosine) / 2
        return np.clip(0.5 * (1 + (asked / length) @ unit.T), 0.0, 1.0)


def attracting_and_repelling(correct: FloatArray, best: int, worst: int) -> tuple[Any, Any]:
    """Return which models attract and which repel each query, shape (n, m) each; ties go by size.

    Args:
        correct: scores, shape (n, m).
        best: at most so many attract a query: of its best, those with a score of at least one half.
        worst: at most so many repel it: of its worst, those below one half.
    """
    order = np.argsort(-correct, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(correct.shape[1])[None], axis=1)
    right = correct >= 0.5
    return right & (rank < best), ~right & (rank >= correct.shape[1] - worst)


def query_model_loss(torch: Torch, similarity: Any, attracts: Any, repels: Any) -> Any:
    """Return the mean over queries of the sum over attracting models a of -log e^s_a / (e^s_a + sum over r of e^s_r).

    Args:
        torch: the library.
        similarity: s of queries and models, shape (n, m).
        attracts: whether a model attracts a query, shape (n, m).
        repels: whether it repels it, shape (n, m).

    Source: RouterDC equation 3.
    """
    repelling = torch.where(repels, similarity, -torch.inf).logsumexp(dim=1, keepdim=True)
    surprise = torch.logaddexp(similarity, repelling) - similarity
    # Where nothing repels, logaddexp is the similarity itself and nothing is to be learned.
    return torch.where(attracts, surprise, 0.0).sum(dim=1).mean()


def query_query_loss(torch: Torch, near: Any, far: Any) -> Any:
    """Return the mean of -log e^n / (e^n + sum of e^f) (RouterDC equation 4).

    Args:
        torch: the library.
        near: similarity to a query of the same group, shape (n, 1).
        far: to queries of other groups, shape (n, H).
    """
    return (torch.cat([near, far], dim=1).logsumexp(dim=1) - near[:, 0]).mean()


def _cosines(torch: Torch, asked: Any, models: Any) -> Any:
    normal = torch.nn.functional.normalize
    return normal(asked, dim=1) @ normal(models, dim=1).T


def _cosines_to(torch: Torch, asked: Any, partners: Any) -> Any:
    """Return cosines of each query with its own partners, shape (n, partners)."""
    return torch.nn.functional.cosine_similarity(asked[:, None], partners, dim=2)


def _groups(embeddings: FloatArray, groups: int, seed: int) -> IntArray:
    from sklearn.cluster import KMeans

    count = min(groups, distinct(embeddings))
    return KMeans(n_clusters=count, random_state=seed, n_init="auto").fit_predict(embeddings)


def _partners(
    group: IntArray, at: IntArray, others: int, random: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Return for each query one of its group, shape (n, 1), and some of other groups, shape (n, others)."""
    order = np.argsort(group, kind="stable")
    size = np.bincount(group)
    start = np.cumsum(size) - size
    own, n = group[at], len(group)
    same = start[own] + random.integers(0, size[own])
    # Positions outside the group's stretch of the order, counted around the circle from its end.
    ahead = random.integers(0, (n - size[own])[:, None], size=(len(at), others))
    different = ((start + size)[own][:, None] + ahead) % n
    return order[same][:, None], order[different]
