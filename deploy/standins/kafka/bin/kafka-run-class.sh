#!/bin/bash
# As Kafka's own, of which it knows what docker-compose.yml uses.
exec /opt/java/openjdk/bin/java ${KAFKA_HEAP_OPTS:--Xmx256m} $KAFKA_JVM_PERFORMANCE_OPTS \
  --enable-native-access=ALL-UNNAMED $KAFKA_LOG4J_OPTS -cp "/opt/kafka/libs/*" "$@"
