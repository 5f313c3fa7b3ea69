"""`tests.crash` for lm-evaluation-harness: runs that log what a model is asked, 20 requests at a time.

Before each time is the point `asked`.
"""

import json
from typing import Any
from unittest import mock

from almost_data.evals import lm_eval_model
from tests import crash

CHUNK = 20


def watch(job: crash.Job, trap: crash.Trap) -> None:
    from lm_eval.models.huggingface import HFLM

    lm_eval_model.CHUNK = CHUNK
    real = HFLM.loglikelihood

    def loglikelihood(self: Any, requests: list[Any], **options: Any) -> list[Any]:
        trap.passed("asked")
        with open(job.log, "a", encoding="utf-8") as log:
            log.writelines(f"{json.dumps(request.args)}\n" for request in requests)
        return real(self, requests, **options)  # type: ignore[no-any-return]

    HFLM.loglikelihood = loglikelihood


if __name__ == "__main__":
    import lm_eval.models.huggingface  # noqa: F401  # once for all runs

    with mock.patch.object(crash, "_watch", watch):
        crash.serve()
