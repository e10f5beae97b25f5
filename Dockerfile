# The demo as an image: docker build -t age-gender-demo . && docker run --rm -p 7860:7860 age-gender-demo
# It serves the model in model/. To serve one from the Hub, pulled when it starts: -e MODEL_ID=user/repo -e MODEL_REVISION=v1
FROM python:3.11-slim-bookworm AS packages
WORKDIR /packages
COPY deploy/requirements.txt .
# torch's index: PyPI's build for Linux brings several GB of CUDA
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -r requirements.txt \
    # 0.24 GB of C++ headers and tests
    && rm -rf /venv/lib/python3.11/site-packages/torch/include /venv/lib/python3.11/site-packages/torch/test \
    && find /venv -type d -name tests -prune -exec rm -rf {} +

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --create-home demo
COPY --from=packages /venv /venv
WORKDIR /app
COPY app.py ./
COPY demo demo
COPY examples examples
COPY model model
COPY model_cc_by model_cc_by
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_TEMP_DIR=/tmp/gradio \
    HF_HOME=/tmp/huggingface
USER 10001:10001
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=90s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/gradio_api/app_id', timeout=4)"]
CMD ["python", "app.py"]
