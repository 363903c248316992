use proptest::prelude::*;

use super::*;

#[test]
fn a_sender_without_credit_sends_nothing() {
    let mut window = SendWindow::default();
    assert_eq!(window.spend(usize::MAX), WINDOW_BYTES as usize);
    assert_eq!(window.spend(1), 0);
    window.granted(10).unwrap();
    assert_eq!(window.spend(11), 10);
}

#[test]
fn more_credit_than_a_window_is_refused_and_changes_nothing() {
    let mut window = SendWindow::default();
    window.spend(5);
    assert!(matches!(
        window.granted(6),
        Err(FlowError::Excess { bytes: 6, .. })
    ));
    assert!(matches!(window.granted(u32::MAX), Err(FlowError::Excess { .. })));
    window.granted(5).unwrap();
}

#[test]
fn a_byte_beyond_the_credit_is_refused() {
    let mut window = ReceiveWindow::default();
    window.received(WINDOW_BYTES as usize).unwrap();
    assert!(matches!(
        window.received(1),
        Err(FlowError::Overrun {
            bytes: 1,
            credit_bytes: 0
        })
    ));
}

#[test]
fn credit_comes_back_in_quarters() {
    let mut window = ReceiveWindow::default();
    window.received(WINDOW_BYTES as usize).unwrap();
    assert_eq!(window.consumed(GRANT_STEP_BYTES as usize - 1), None);
    assert_eq!(window.consumed(1), Some(GRANT_STEP_BYTES));
}

proptest! {
    #[test]
    fn prop_both_ends_agree_and_a_stream_never_stalls(steps in prop::collection::vec((0usize..90_000, 0usize..90_000), 1..200)) {
        let mut sender = SendWindow::default();
        let mut receiver = ReceiveWindow::default();
        let mut held = 0;
        for (send, take) in steps {
            let sent = sender.spend(send);
            receiver.received(sent).unwrap();
            held += sent;
            let take = take.min(held);
            held -= take;
            if let Some(grant) = receiver.consumed(take) {
                sender.granted(grant).unwrap();
            }
            prop_assert!(held > 0 || sender.credit_bytes() > 0, "nothing held and nothing may be sent");
        }
    }
}
