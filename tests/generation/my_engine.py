"""An engine of another author, against the public API alone: it answers prompts and messages in capitals."""

from collections.abc import Iterable, Iterator
from typing import Any

from almost_data import InputError, Model, Reply, Request, cut_at_stop


class ENGINE:
    """Repeats the last line of the prompt in capitals, `repeat` times."""

    name = "capitals"
    honours_seed = True
    load_seconds = 0.0

    def __init__(self, repeat: int = 1, mark: str = "!") -> None:
        if repeat < 1:
            raise InputError(f"engine.repeat {repeat}: give 1 or more")
        self.repeat = repeat
        self.mark = mark

    def resolve(self, model: Model) -> Model:
        return Model(model.id, "1")

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        ids: set[str] = set()
        for request in requests:
            if request.id in ids:
                raise ValueError(f"request id {request.id!r} occurs twice")
            ids.add(request.id)
            prompt = request.prompt or "\n".join(message["content"] for message in request.messages)
            if refusal := request.refusal(len(prompt)):
                yield Reply.failed(request.id, refusal)
            else:
                yield self._reply(request, prompt)

    def _reply(self, request: Request, prompt: str) -> Reply:
        lines = [line for line in prompt.upper().splitlines() if "?" in line] or ["YES"]
        words = (f"{lines[-1]}{self.mark} ({request.model.id}, {request.seed}) " * self.repeat).split()
        text, stopped = cut_at_stop(" ".join(words), request.sampling.stop)
        limit = request.sampling.max_new_tokens
        words = text.split()
        return Reply(
            id=request.id,
            text=" ".join(words[:limit]) if len(words) > limit else text,
            finish_reason="length" if len(words) > limit and not stopped else "stop",
            prompt_tokens=len(prompt.split()),
            completion_tokens=min(len(words), limit),
        )

    def settings(self) -> dict[str, Any]:
        return {"repeat": self.repeat, "mark": self.mark}

    def close(self) -> None:
        pass
