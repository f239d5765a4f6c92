//! Why the gateway's framing is its own: what tokio-modbus, the usual library, makes of the same faults. When one of these
//! tests fails, the library has learnt something, and `docs/modbus.md` and `Cargo.toml` say too much.

use super::*;
use crate::support::rtu_line::{self, RtuLine};
use tokio::net::TcpStream;
use tokio_modbus::client::{Client, Context, Reader, rtu, tcp};
use tokio_modbus::{Error, ProtocolError, Request, Response, Slave};

const COUNT: u16 = 4;

async fn ask_over_tcp(manner: Manner) -> Result<Vec<u16>, Error> {
    let server = ModbusServer::start().await;
    server.set(1, manner);
    let mut client = tcp::connect_slave(server.address, Slave(1)).await.unwrap();
    // Below its typed reads, which assert the length in a debug build and do not look at it in a release.
    let answer = client.call(Request::ReadHoldingRegisters(0, COUNT)).await?;
    let Response::ReadHoldingRegisters(words) = answer.expect("no exception") else {
        panic!("another answer")
    };
    Ok(words)
}

#[tokio::test]
async fn a_late_answer_and_a_wrong_unit_are_one_error_to_tokio_modbus_and_a_short_answer_is_no_error() {
    for manner in [Manner::WrongTransaction, Manner::WrongUnit] {
        let answer = ask_over_tcp(manner.clone()).await;
        let is_it = matches!(answer, Err(Error::Protocol(ProtocolError::HeaderMismatch { .. })));
        assert!(is_it, "{manner:?}: {answer:?}");
    }
    let short = ask_over_tcp(Manner::Short).await.unwrap();
    assert_eq!(short.len(), usize::from(COUNT) - 1, "it was asked for {COUNT}");
}

/// The next question after a time-out, on the same connection: whose words it gives.
#[tokio::test]
async fn on_a_line_tokio_modbus_takes_a_late_answer_for_the_next_ones() {
    let line = RtuLine::start().await;
    let stream = TcpStream::connect(line.address).await.unwrap();
    let mut client: Context = rtu::attach_slave(stream, Slave(1));
    line.set(1, rtu_line::Manner::LateEvery(1, Duration::from_secs(1)));
    let first = tokio::time::timeout(Duration::from_millis(50), client.read_holding_registers(0, COUNT));
    assert!(first.await.is_err(), "the answer was late");
    line.set(1, rtu_line::Manner::Mute);
    // Nobody answers this one, but what comes is taken.
    let second = tokio::time::timeout(PATIENCE, client.read_holding_registers(20, COUNT)).await;
    let words = second.expect("something came").unwrap().unwrap();
    let of = |start: u16| (start..start + COUNT).map(|at| word(1, 3, at)).collect::<Vec<u16>>();
    assert_ne!(words, of(20));
    assert_eq!(words, of(0), "the registers of the question before");
}
