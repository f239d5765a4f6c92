//! THE DEMO, devices that speak Modbus: one TCP server with several units behind it, as a serial gateway has.

use super::devices::Form;
use super::world::World;
use std::collections::HashMap;
use std::future::{Ready, ready};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};
use tokio_util::sync::CancellationToken;

/// What stands behind a unit id: the device's id and how it speaks.
pub(super) type Units = HashMap<u8, (String, Form)>;

#[derive(Clone)]
struct Bus {
    units: Arc<Units>,
    world: World,
}

impl Service for Bus {
    type Request = SlaveRequest<'static>;
    /// `None`: nobody answers, as on a wire whose unit is switched off.
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Self::Response, Self::Exception>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        ready(self.answer(&request))
    }
}

impl Bus {
    fn answer(&self, request: &SlaveRequest<'static>) -> Result<Option<Response>, ExceptionCode> {
        let Some((device, form)) = self.units.get(&request.slave) else { return Ok(None) };
        if self.world.is_mute(device) {
            return Ok(None);
        }
        let words = |start: u16, count: u16| {
            let registers = (0..count).map(|offset| {
                let address = start.checked_add(offset).ok_or(ExceptionCode::IllegalDataAddress)?;
                form.register(&self.world, device, address).ok_or(ExceptionCode::IllegalDataAddress)
            });
            registers.collect::<Result<Vec<u16>, ExceptionCode>>()
        };
        let bits = |start: u16, count: u16| {
            words(start, count).map(|words| words.into_iter().map(|word| word != 0).collect::<Vec<bool>>())
        };
        // Each form keeps its values in one table only, as the real ones do.
        let holding = matches!(form, Form::PressureUnit | Form::LevelUnit);
        let discrete = matches!(form, Form::ContactsUnit);
        match request.request {
            Request::ReadHoldingRegisters(start, count) if holding => {
                words(start, count).map(|words| Some(Response::ReadHoldingRegisters(words)))
            }
            Request::ReadInputRegisters(start, count) if !holding && !discrete => {
                words(start, count).map(|words| Some(Response::ReadInputRegisters(words)))
            }
            Request::ReadDiscreteInputs(start, count) if discrete => {
                bits(start, count).map(|bits| Some(Response::ReadDiscreteInputs(bits)))
            }
            Request::ReadHoldingRegisters(..)
            | Request::ReadInputRegisters(..)
            | Request::ReadDiscreteInputs(..) => Err(ExceptionCode::IllegalDataAddress),
            _ => Err(ExceptionCode::IllegalFunction),
        }
    }
}

/// Serves the units until cancelled.
pub(super) async fn serve(listener: TcpListener, units: Units, world: World, cancel: CancellationToken) {
    let bus = Bus { units: Arc::new(units), world };
    let server = Server::new(listener);
    let connected = |stream, address| {
        let bus = bus.clone();
        async move { accept_tcp_connection(stream, address, move |_| Ok(Some(bus.clone()))) }
    };
    // The gateway closes connections as it likes; that is no news for the simulator.
    let ended = server.serve_until(&connected, |_| (), cancel.cancelled_owned()).await;
    if let Err(error) = ended {
        tracing::error!(%error, "a simulated Modbus server ended");
    }
}
