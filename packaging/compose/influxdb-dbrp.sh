#!/bin/sh
# Runs once, when the InfluxDB 2 container sets itself up: lets InfluxQL ask the bucket as a database of the same name.
set -eu
influx v1 dbrp create \
    --bucket-id "$DOCKER_INFLUXDB_INIT_BUCKET_ID" \
    --db "$DOCKER_INFLUXDB_INIT_BUCKET" \
    --rp autogen \
    --default \
    --org "$DOCKER_INFLUXDB_INIT_ORG" \
    --token "$DOCKER_INFLUXDB_INIT_ADMIN_TOKEN"
