"""Routers that learn a function of the embedding: a perceptron per model, matrix factorisation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness_analysis.outcomes.matrix import FloatArray, OutcomeMatrix
from harness_analysis.routing.router import NotFittedError, Queries, check_training


@dataclass
class PerceptronPerModel:
    """A multi-layer perceptron for each model predicts its score (RouterBench section 5.1 and appendix B).

    Args:
        hidden: neurons of each hidden layer; the paper's best has two of 100.
        epochs: at most; training stops early on a held-out tenth.
        seed: of the weights.
    """

    hidden: tuple[int, ...] = (100, 100)
    epochs: int = 60
    seed: int = 0
    name: str = "mlp"
    sees_answers: bool = False
    votes: bool = False
    _models: list[Any] = field(default_factory=list, repr=False)

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray) -> None:
        """Train one perceptron per model; where a model's score never varies, remember the constant."""
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor
        from threadpoolctl import threadpool_limits

        check_training(training, embeddings)
        self._models = []
        for column in training.correct.T:
            if np.ptp(column) == 0:
                self._models.append(float(column[0]))
                continue
            perceptron = MLPRegressor(
                hidden_layer_sizes=self.hidden,
                learning_rate_init=0.001,
                max_iter=self.epochs,
                early_stopping=len(column) >= 50,
                n_iter_no_change=5,
                random_state=self.seed,
            )
            # Batches of 200 rows are too small to share: a second thread makes each step slower, and on a busy machine
            # a hundred times slower.
            with warnings.catch_warnings(), threadpool_limits(1):
                # The epochs are a limit on time by intention; the held-out tenth guards against the rest.
                warnings.simplefilter("ignore", ConvergenceWarning)
                self._models.append(perceptron.fit(embeddings, column))

    def scores(self, queries: Queries) -> FloatArray:
        """Return the predictions, cut to [0, 1]."""
        if not self._models:
            raise NotFittedError(self.name)
        columns = [
            np.full(len(queries), model) if isinstance(model, float) else model.predict(queries.embeddings)
            for model in self._models
        ]
        return np.clip(np.column_stack(columns).astype(np.float64), 0.0, 1.0)


@dataclass
class MatrixFactorisation:
    """Scores as products of latent vectors of models and queries ("Who routes the router", appendix E).

    The centred matrix of scores is factorised by a truncated singular value decomposition, and a ridge regression maps
    a query's embedding to its latent vector. EmbedLLM, which the paper names, learns both by gradient descent on the
    cross entropy instead.

    Args:
        rank: latent dimensions; cut to the number of models less one.
        penalty: of the ridge regression.
        seed: of the decomposition.
    """

    rank: int = 16
    penalty: float = 1.0
    seed: int = 0
    name: str = "mf"
    sees_answers: bool = False
    votes: bool = False
    _mean: FloatArray = field(default_factory=lambda: np.empty(0), repr=False)
    _models: FloatArray = field(default_factory=lambda: np.empty((0, 0)), repr=False)
    _projection: Any = field(default=None, repr=False)

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray) -> None:
        """Factorise the training scores and learn the projection."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.linear_model import Ridge

        check_training(training, embeddings)
        self._mean = training.correct.mean(axis=0)
        centred = training.correct - self._mean
        rank = max(1, min(self.rank, *(side - 1 for side in centred.shape)))
        # Nothing varies: every query has the same latent vector, and the means say all.
        if not centred.any():
            self._models = np.zeros((1, centred.shape[1]))
            self._projection = Ridge().fit(embeddings, np.zeros((len(embeddings), 1)))
            return
        decomposition = TruncatedSVD(rank, random_state=self.seed)
        latent = decomposition.fit_transform(centred)
        self._models = np.asarray(decomposition.components_, dtype=np.float64)
        self._projection = Ridge(alpha=self.penalty).fit(embeddings, latent)

    def scores(self, queries: Queries) -> FloatArray:
        """Return mean plus product, cut to [0, 1]."""
        if self._projection is None:
            raise NotFittedError(self.name)
        latent = self._projection.predict(queries.embeddings).reshape(len(queries), -1)
        return np.clip(self._mean + latent @ self._models, 0.0, 1.0)
