from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_survey_of_the_machine() -> Iterator[None]:
    """lm-evaluation-harness lists pip's packages and the hardware for a report that nothing here reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: "")
        yield
