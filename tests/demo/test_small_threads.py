"""Functions that need no model do not wait behind those that do."""

import asyncio
import threading

import gradio as gr

from demo.gradio_changes import StrictBlocks


PATIENCE = 60.0  # seconds, on a busy machine


def test_small_functions_are_answered_while_the_models_threads_are_taken():
    started, may_end = threading.Semaphore(0), threading.Event()

    def slow(text: str) -> str:
        started.release()
        assert may_end.wait(PATIENCE)
        return text

    async def ask() -> None:
        with StrictBlocks() as page:
            text, button = gr.Textbox(), gr.Button()
            button.click(slow, text, text, queue=True)
            button.click(lambda text: text, text, text, queue=False)
        of_model, small = page.fns.values()
        threads = int(page._model_threads.total_tokens)
        waiting = [asyncio.create_task(page.process_api(of_model, ["a"], None)) for _ in range(threads + 5)]
        try:
            for _ in range(threads):
                assert await asyncio.to_thread(started.acquire, timeout=PATIENCE)
            answer = await asyncio.wait_for(page.process_api(small, ["b"], None), PATIENCE)
            assert answer["data"] == ["b"]
            assert not any(task.done() for task in waiting)
        finally:
            may_end.set()
        assert [answer["data"] for answer in await asyncio.gather(*waiting)] == [["a"]] * len(waiting)

    asyncio.run(ask())
