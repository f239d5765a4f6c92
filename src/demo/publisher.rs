//! THE DEMO, a device that speaks MQTT: its own connection, QoS 1, and what happened is said at once.

use super::devices::Form;
use super::world::World;
use rumqttc::{AsyncClient, EventLoop, MqttOptions, QoS};
use std::net::SocketAddr;
use tokio::time::{Duration, Instant, sleep};

/// How often the device looks at what it measures.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long it waits before it connects again.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// Messages that wait for the connection; a real detector holds one or two.
const QUEUE: usize = 4;

/// One simulated device.
pub(super) struct Publisher {
    pub(super) device: String,
    pub(super) form: Form,
    pub(super) topic: String,
    pub(super) broker: SocketAddr,
    pub(super) world: World,
}

impl Publisher {
    /// Speaks until it is dropped.
    pub(super) async fn run(self) {
        let mut options =
            MqttOptions::new(self.device.clone(), self.broker.ip().to_string(), self.broker.port());
        options.set_keep_alive(Duration::from_secs(30));
        let (client, events) = AsyncClient::new(options, QUEUE);
        tokio::join!(keep_connected(events), self.speak(client));
    }

    async fn speak(&self, client: AsyncClient) {
        let mut said: Vec<Option<i64>> = Vec::new();
        // Forty devices that were switched on together must not all speak in the same millisecond for ever.
        let period = Duration::from_secs(self.form.period_secs());
        let mut next = Instant::now() + period.mul_f64(fastrand::f64());
        loop {
            sleep(LOOK_EVERY).await;
            if self.world.is_mute(&self.device) {
                continue;
            }
            let urgent: Vec<Option<i64>> =
                self.form.urgent().iter().map(|signal| self.rounded(signal)).collect();
            let changed = urgent != said && !said.is_empty();
            if !changed && Instant::now() < next {
                if said.is_empty() {
                    said = urgent;
                }
                continue;
            }
            said = urgent;
            next = Instant::now() + period;
            let message = self.form.message(&self.world, &self.device).to_string();
            // A full queue means that the broker is away; the next look says it again.
            if client.try_publish(&self.topic, QoS::AtLeastOnce, false, message).is_err() {
                said.clear();
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "states are small whole numbers")]
    fn rounded(&self, signal: &str) -> Option<i64> {
        self.world.measure(&self.device, signal).map(|value| value.round() as i64)
    }
}

async fn keep_connected(mut events: EventLoop) {
    loop {
        if events.poll().await.is_err() {
            sleep(RECONNECT_AFTER).await;
        }
    }
}
