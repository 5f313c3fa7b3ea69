"""Why a row of a foreign file cannot be used."""

ORDERS_DISAGREE = "orders_disagree"
"""In place of a winner: the reason for which its row is left out."""
TIE = "tie"
"""The reason of a row that says that its sides are equally good: data, and no fault."""
REASONS = {
    "no_prompt": "There is no prompt: the column is empty or null, or says NaN or None.",
    "no_reply": "A reply is empty or null, or says NaN or None.",
    "no_user_turn_last": "The prompt does not end in a user's turn.",
    "not_one_reply": "After the prompt there is not exactly one turn of the assistant.",
    "prompts_differ": "The two sides, or a side and the prompt column, do not begin with the same turns.",
    "earlier_turns": "The turns before the prompt are in another row or column, and are not read.",
    "system_not_first": "A system turn is not the first turn.",
    "unreadable_system": "The column of the system turn does not hold text.",
    "unreadable_history": "The column history holds neither pairs of texts nor turns that end in a reply.",
    "equal_sides": "Chosen and rejected are the same text.",
    TIE: "The sides are rated the same.",
    "no_preference": "It is not said which side is better.",
    "lone_row": "No row of the same prompt stands beside it: sort the file by its prompt.",
    ORDERS_DISAGREE: "The judge's verdict is another one where the replies stand in the other order.",
    "tool_turn": "A turn calls a tool or is a tool's answer, which is not text.",
    "unknown_role": "A turn has a role that is neither system, user nor assistant.",
    "not_text": "A value is neither text nor a list of turns, or not what its layout has there.",
    "image": "The row has an image, a video or sound, and only text is read.",
    "ambiguous": "A column that is empty in this layout has a value: it may hold the prompt or a reply.",
    "template_text": "A text has marks of a chat template, or is a whole transcript: turns belong in a list.",
    "unreadable_json": "A value begins like a JSON list of turns and cannot be read as one.",
    "duplicate": "An earlier row has the same prompt and replies.",
}
"""Reason -> the sentence of the ledger."""


class Unusable(ValueError):
    """Why a row cannot be used: `reason` is a word of `REASONS`, the text says more."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or REASONS[reason])
        self.reason = reason
