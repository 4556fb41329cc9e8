"""A support agent: reads a ticket, looks things up, writes a reply, checks it.

Two or three calls of a model through the official `openai` SDK, one or two tools. Serve it from this directory:

    headgate serve agent:gate

It talks to the provider at OPENAI_BASE_URL with OPENAI_API_KEY. AGENT_LARGE_MODEL and AGENT_SMALL_MODEL say which of
the provider's models stand behind the two names in headgate.yaml.
"""

from __future__ import annotations

import asyncio
import os
import random
from functools import cache
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from headgate import Gate, Run
from headgate.guard.ambient import current_resource

gate = Gate.load(Path(__file__).with_name("headgate.yaml"))

MODELS = {
    "large": os.environ.get("AGENT_LARGE_MODEL", "large"),
    "small": os.environ.get("AGENT_SMALL_MODEL", "small"),
}


@cache
def provider() -> AsyncOpenAI:
    """The SDK, with its own retries off: headgate retries, and gives the slot back while it waits."""
    return AsyncOpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
        max_retries=int(os.environ.get("AGENT_SDK_RETRIES", "0")),
    )


async def ask(instruction: str, text: str, *, reads: int, writes: int) -> dict[str, Any]:
    """One model call, to the model whose guard we are under: after a fallback that is the smaller one.

    ``reads`` tells a simulated provider how long the prompt would really be.
    """
    done = await provider().chat.completions.create(
        model=MODELS[current_resource() or "large"],
        messages=[{"role": "system", "content": instruction}, {"role": "user", "content": text}],
        max_tokens=writes,
        extra_headers={"x-lab-input-tokens": str(reads)},
    )
    usage = done.usage
    return {
        "text": done.choices[0].message.content or "",
        "usage": {"total_tokens": usage.total_tokens if usage else reads + writes},
    }


async def search_articles(query: str, limit: int) -> list[str]:
    """The help centre's search; takes longer the more it is asked for."""
    await asyncio.sleep(random.lognormvariate(-2.3, 0.3) + 0.01 * limit)
    return [f"article {number} on {query[:40]}" for number in range(limit)]


async def customer_history(customer: str) -> list[str]:
    """The customer's earlier tickets, from the CRM."""
    await asyncio.sleep(random.lognormvariate(-1.6, 0.4))
    return [f"{customer}: earlier ticket"]


@gate.workflow("support")
async def support(run: Run, ticket: dict[str, Any]) -> dict[str, Any]:
    """Answer one ticket."""
    reads, writes = int(ticket.get("reads", 2000)), int(ticket.get("writes", 300))
    query = await run.call(
        "large", ask, "Say what to search for.", ticket["text"], reads=reads // 4, writes=writes // 6
    )
    found = await run.call("search", search_articles, query["text"], limit=run.knob("articles", 8))
    history = []
    if run.allows("history"):
        history = await run.call("crm", customer_history, ticket["customer"])
    facts = "\n".join([ticket["text"], *found, *history])
    reply = await run.call("large", ask, "Answer the customer.", facts, reads=reads, writes=writes)
    if run.allows("review"):
        reply = await run.call(
            "large", ask, "Improve this reply.", reply["text"], reads=reads // 2, writes=writes // 3
        )
    return {"reply": reply["text"], "articles": len(found)}
