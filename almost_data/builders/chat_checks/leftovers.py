"""Marks in a reply that belong to no reply: of a model's reasoning, and of the next turn."""

from collections.abc import Sequence

import polars as pl

from .patterns import CODE, find, matching, words

_TAGS = "thoughts?|reason|reasoning|reflection|analysis|scratchpad|inner_monologue"
REASONING = (
    r"(?i)<\s*/?\s*(?:think|thinking|seed:think)\b[^<>\n]{0,40}>|◁/?think▷|\[/?THINK\]|"
    # Channels of gpt-oss, and the marks of other open models
    r"<\|?channel\|?>|<\|message\|>|<\|(?:begin|end)_of_(?:thought|solution)\|>|"
    r"<\|(?:start|end)_(?:thinking|response)\|>|"
    # Only as the first words of a reply
    rf"\A\s*(?:<(?:{_TAGS})>|analysis(?s:.{{0,4000}})assistantfinal|here is my thought process:)"
)
_MARKS = (
    *words("think|◁|channel|_of_thought|_of_solution|assistantfinal|<thought|<reason|<reflection|<analysis"),
    *words("<scratchpad|<inner_monologue|thought process:"),
    *("message|>", "_response|>"),
)
"""Words one of which stands in each text with a mark of reasoning."""
OPENING = 200
"""Characters in which a reply shows that it begins with a thought on what the user wants."""
_OF_THE_USER = (
    # "Okay, the user is asking", and not a reply about a program and its user
    r"(?i)\A\W*(?:(?:ok|okay|alright|hmm+|got it|right)\W+){1,2}(?:(?:so )?the user(?:['’]s (?:request|"
    r"question|query|message)| (?:is asking|has asked|(?:just |simply )?(?:wants?|said|says|asks?|asked|"
    r"wrote|sent))\b))|\A\W*the user(?:['’]s| (?:is asking|has asked|wants?|said|says|asks?|asked|wrote|"
    r"sent))\b(?s:.{1,160})"
    r"\b(?:i (?:need|should|have|will|must|can)|let me|i['’]ll|they (?:want|need|are asking))\b|"
    r"\A\W*(?:(?:bien|vale|gut|okay|ok|d['’]accord|bon|хорошо|итак|bene|certo|tamam)\W+){0,2}(?:"
    r"el usuario (?:pregunta|me pregunta|quiere|pide|solicita)\b|der (?:be)?nutzer (?:fragt|möchte|will|"
    r"bittet)\b|l['’]utilisateur (?:me )?(?:demande|veut|souhaite)\b|"
    r"пользователь (?:спрашивает|просит|хочет|задал|спросил|попросил)|"
    r"o usuário (?:quer|pergunt|pede|pediu|solicit)|l['’]utente (?:mi )?(?:chiede|vuole)\b|"
    r"kullanıcı [^.\n]{0,60}(?:soruyor|istiyor|sordu|istedi))|\A\W*(?:好的?|嗯+|首先|"
    r"现在)?[，,。\s]*(?:我)?用[户戶](?:让我|要求|想|问|说|希望|的问题|提到|询)|"
    r"\A(?:まず|さて|えっと)?[、\s]*ユーザー[はがの][^。\n]{0,40}(?:質問|求め|尋ね|聞いて|依頼|知りた)|"
    r"\A(?:먼저|좋아|음)?[,.\s]*사용자[가는의][^.\n]{0,40}(?:물어|요청|원하|질문)|"
    r"\A\W*(?:okay|ok|alright|hmm+)[,.]+ so,? i (?:need|have) to (?:figure out|determine|solve)|"
    r"\A\W*thinking process:?\W*\n"
)
_USER_WORDS = words(
    "user|usuario|usuário|nutzer|utilisateur|utente|пользователь|kullanıcı|用户|用戶|ユーザー|사용자|"
    "i need to|i have to|thinking process"
)
_NAMES_A_USER = (
    r"(?i)\busers?\b|用户|用戶|ユーザー|사용자|usu[aá]ri|nutzer|utilisat|utente|пользоват|kullanıcı"
)
_TOKENS = (
    r"<\|(?:im_start|im_end|eot_id|eom_id|start_header_id|end_header_id|endoftext|end_of_text|end|user|"
    r"assistant|system)\|>|\A[^<]*</s>\s*\z|</?(?:start|end)_of_turn>|\[/?INST\]|<｜(?:User|Assistant|"
    r"end▁of▁sentence)｜>"
)
_LABELS = r"\n[ \t]*(?:Human|User|人类|用户|用戶|ユーザー|사용자|###? ?(?:Human|User|Instruction))[ \t]*[:：]"
_USERS = (
    "user|human|you|usuario|usuário|benutzer|nutzer|utilisateur|utente|пользователь|користувач|المستخدم|"
    "kullanıcı|người dùng|użytkownik|gebruiker|pengguna|उपयोगकर्ता|ผู้ใช้|χρήστης|用户|ユーザー|사용자"
)
_ASSISTANTS = (
    "assistant|ai|bot|asistente|assistente|assistent|ассистент|асистент|помощник|المساعد|asistan|trợ lý|"
    "asystent|asisten|सहायक|ผู้ช่วย|βοηθός|助手|アシスタント|어시스턴트"
)
_MARK = r"[*\[<\]>]{0,2}"
_BOTH_LABELS = (
    rf"\n[ \t]*{_MARK}(?:{_USERS}){_MARK}[ \t]*(?:[:：]|\n)[^\n]*\n\s*{_MARK}(?:{_ASSISTANTS}){_MARK}[ \t]*"
    r"(?:[:：]|\n)"
)
"""A turn of the user and the reply to it, whose labels are text if they stand alone."""
_TURNS = (
    *words(
        "</s>|_of_turn>|inst]|<｜|human|user|you:|instruction|人类|用户|用戶|ユーザー|사용자|usuario|usuário"
    ),
    *words("nutzer|utilisateur|utente|пользователь|користувач|المستخدم|kullanıcı|người dùng|użytkownik"),
    *words("gebruiker|pengguna|उपयोगकर्ता|ผู้ใช้|χρήστης"),
    "<|",
)
"""Words likewise of the next turn."""
NEXT_TURN = rf"{_TOKENS}|{_LABELS}|(?i:{_BOTH_LABELS})"
_DIALOGUE_ASKED_FOR = (
    r"(?i)dialog|conversation|\bchat|script|transcript|interview|role-?play|\bplay\b|\bscene|\bprompt|"
    r"\b(?:human|user|robot|bot)s?\b|对话|對話|聊天|会話|対話|대화|диалог|diálogo|gespräch|conversación|"
    r"محادثة|حوار"
)


def holds_reasoning(rows: pl.DataFrame) -> pl.Series:
    """Whether each `response` has a mark of reasoning outside of code, of which its prompt has none."""
    is_asked_for = pl.col("prompt").str.contains(rf"(?i)<(?:{_TAGS}|think)")
    openings = rows.select("prompt", text=pl.col("response").str.head(OPENING)).with_row_index()
    thoughts = find(openings, {_OF_THE_USER: _USER_WORDS}).filter(
        ~pl.col("prompt").str.contains(_NAMES_A_USER)
    )
    return _matches(rows, REASONING, _MARKS, ~is_asked_for) | matching(rows, thoughts["index"])


def runs_on(rows: pl.DataFrame) -> pl.Series:
    """Whether each `response` goes on with a turn of the user, or has a token of a chat template."""
    labels_are_text = pl.col("prompt").str.contains(_DIALOGUE_ASKED_FOR)
    labels_are_text = labels_are_text | pl.col("response").str.contains(r"\A\W*\p{Lu}[\w' ]{0,20}[:：]")
    is_next = pl.col("text").str.contains(_TOKENS) | ~labels_are_text
    return _matches(rows, NEXT_TURN, _TURNS, is_next)


def _matches(rows: pl.DataFrame, pattern: str, marks: Sequence[str], condition: pl.Expr) -> pl.Series:
    """Rows whose `response` matches outside of code, and of which the condition is true."""
    texts = rows.select("prompt", "response", text="response").with_row_index()
    candidates = find(texts, {pattern: marks})
    outside = pl.col("text").str.replace_all(CODE, "``")
    return matching(rows, candidates.filter(outside.str.contains(pattern) & condition)["index"])
