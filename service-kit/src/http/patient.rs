//! A socket that disconnects a client which reads its answer too slowly. Otherwise such a client would keep its connection,
//! and a snapshot its read transaction, for ever.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// How long a client may keep an answer waiting while it reads [`MIN_TAKEN_BYTES`].
pub const MAX_STALL_TIME: Duration = Duration::from_secs(20);
/// About 3 KB/s, a very slow phone. A client at its limit may read a little more: the kernel reports progress in steps.
pub const MIN_TAKEN_BYTES: usize = 64 * 1024;
/// The kernel's send buffer. By default it grows to megabytes, and then the kernel reports progress in steps that take a slow
/// client minutes.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

pub(crate) struct Patient<S = TcpStream> {
    socket: S,
    pace: Pace,
    /// Runs while nothing goes out.
    stalled: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// What a client has read since the last check, and how long it kept us waiting meanwhile. Time with nothing to send does not
/// count.
#[derive(Default)]
struct Pace {
    bytes: usize,
    waited: Duration,
}

impl Pace {
    /// How much longer it may keep us waiting.
    fn left(&self) -> Duration {
        MAX_STALL_TIME.saturating_sub(self.waited)
    }

    fn took(&mut self, bytes: usize, after: Duration) {
        self.waited += after;
        self.bytes += bytes;
        if self.bytes >= MIN_TAKEN_BYTES {
            *self = Self::default();
        }
    }
}

impl Patient {
    pub(crate) fn new(socket: TcpStream) -> Self {
        let _ = set_socket_send_buffer_size(&socket, SEND_BUFFER_BYTES); // a larger one is only less exact
        Self::with(socket)
    }
}

impl<S> Patient<S> {
    fn with(socket: S) -> Self {
        Self {
            socket,
            pace: Pace::default(),
            stalled: None,
        }
    }

    fn watch(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            let waited = self.stalled.take();
            let waited = waited.map_or(Duration::ZERO, |(since, _)| since.elapsed());
            self.pace.took(*written.as_ref().unwrap_or(&0), waited);
            return Poll::Ready(written);
        }
        let left = self.pace.left();
        let limit = || (Instant::now(), Box::pin(tokio::time::sleep(left)));
        let (_, stalled) = self.stalled.get_or_insert_with(limit);
        stalled.as_mut().poll(context).map(|()| {
            let why = "the client reads too slowly";
            Err(io::Error::new(ErrorKind::TimedOut, why))
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, into)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// For how long a client that takes in so much every second is sent to: at most ten minutes.
    async fn is_sent_to(bytes_a_second: usize) -> Duration {
        let (mut client, socket) = tokio::io::duplex(SEND_BUFFER_BYTES);
        let mut socket = Patient::with(socket);
        let began = Instant::now();
        let sends = async {
            let error = loop {
                if let Err(error) = socket.write_all(&[0; 8192]).await {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        };
        let takes = async {
            let mut bytes = vec![0; bytes_a_second];
            for _ in 0..600 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                client.read_exact(&mut bytes).await.unwrap();
            }
        };
        tokio::select! {
            () = sends => {}
            () = takes => {}
        }
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_sent_to_and_one_that_hardly_reads_is_not() {
        assert!(is_sent_to(8 * 1024).await >= Duration::from_secs(600));
        for too_few in [2 * 1024, 100] {
            assert!(is_sent_to(too_few).await <= 3 * MAX_STALL_TIME, "{too_few}");
        }
    }

    #[test]
    fn a_client_may_be_slow_for_ever_but_not_too_slow() {
        let s = Duration::from_secs;
        let least_left = |bytes_a_second: usize| {
            let mut pace = Pace::default();
            let seconds = (0..100).map(|_| {
                pace.took(bytes_a_second, s(1));
                pace.left()
            });
            seconds.min().unwrap()
        };
        assert!(least_left(MIN_TAKEN_BYTES / 10) >= s(9));
        assert_eq!(least_left(MIN_TAKEN_BYTES / 40), s(0));
        assert_eq!(least_left(0), s(0));
    }
}
