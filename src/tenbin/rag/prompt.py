"""The prompts that ask inside a text, and tell the model what to say where the text has no answer."""

from tenbin.config import TaskName
from tenbin.tasks.base import PromptTemplate

FIELDS: dict[TaskName, str] = {"reading": "passage", "question_bank": "context"}
"""Task -> input that holds the text; tasks without one cannot be asked inside long texts."""

READING = (
    "次の文章だけをもとに、質問に文章中の言葉で短く答えてください。"
    "文章に答えがないときは、「{absent}」とだけ答えてください。\n\n"
    "### 文章\n$passage\n\n### 質問\n$question\n\n### 答え\n$response"
)
QUESTION_BANK = (
    "次の資料だけをもとに、質問に簡潔に答えてください。"
    "資料に答えがないときは、「{absent}」とだけ答えてください。\n\n"
    "### 資料\n$context\n\n### 質問\n$question\n\n"
    "$[choices]### 選択肢\n$choices\n\n$[/choices]"
    "### 答え\n$response"
)


def default_template(task: TaskName, absent_answer: str) -> PromptTemplate:
    """The prompt of a task in FIELDS."""
    pattern = {"reading": READING, "question_bank": QUESTION_BANK}[task]
    return PromptTemplate(pattern.replace("{absent}", absent_answer.replace("$", "$$")))
