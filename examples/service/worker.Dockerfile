# A worker in a container: the copied package folder and the script, nothing else. Mount a volume at /data, so that a
# result outlives the container, and hand the credentials in at run time: docker run -v bots:/data -e USERAGENT_…
FROM python:3.13-slim
RUN useradd --create-home bots && install -d -o bots /data
COPY user_agent_sdk /app/user_agent_sdk
COPY agent.py /app/
WORKDIR /app
USER bots
ENV USERAGENT_JOURNAL=/data/journal
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9464/healthz', timeout=5)"]
ENTRYPOINT ["python3", "-m", "user_agent_sdk", "run", "agent.py", "--status-port", "9464", "--log-format", "json"]
