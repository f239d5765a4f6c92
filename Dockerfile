# fengsui 烽燧: build, then a small image without a compiler. The gateway runs as a user without rights.

FROM rust:1.95-slim-bookworm AS build
# SQLite and the TLS library are compiled from source.
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev make perl pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin fengsui && strip target/release/fengsui

FROM debian:bookworm-slim
# CA certificates: for brokers and stores that are reached by TLS.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --user-group --home-dir /var/lib/fengsui --create-home --shell /usr/sbin/nologin fengsui
COPY --from=build /build/target/release/fengsui /usr/local/bin/fengsui
USER fengsui
WORKDIR /var/lib/fengsui
VOLUME /var/lib/fengsui
EXPOSE 8080
# The process drains on SIGTERM; the journal has everything even when it is killed.
STOPSIGNAL SIGTERM
ENTRYPOINT ["fengsui"]
CMD ["run", "--config", "/etc/fengsui/gateway.toml"]
