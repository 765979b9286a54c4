//! An order's life: placed → assigned → picked_up → delivered, or cancelled on the way.

use event_schema::{
    CancelReason, DriverId, IntentStamp, OrderAssigned, OrderCancelled, OrderDelivered, OrderEvent,
    OrderId, OrderPickedUp, OrderPlaced, OrderProblemReported, OrderReleased, ProblemKind,
    ReleaseReason, UserId, Version,
};

use serde::{Deserialize, Serialize};

use super::{Amount, Currency, Note, explain};

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Order {
    pub id: OrderId,
    pub user_id: UserId,
    pub amount: Amount,
    pub currency: String,
    pub status: Status,
    /// The driver who is to deliver it, or who delivered it.
    pub driver_id: Option<DriverId>,
    /// Written by the driver or the operator who ended it.
    pub note: Option<String>,
    pub cancel_reason: Option<String>,
    /// Problems reported on the way.
    pub problems: u32,
    pub version: Version,
    /// Of the last change that came from orders-service and not from a device. An intent based on an earlier version may be
    /// in conflict with it.
    pub owner_version: Version,
    /// Unix time in milliseconds.
    pub created_at_ms: i64,
    pub changed_at_ms: i64,
    /// The sequence of the event that placed it. Lists are in this order, because clocks jump.
    pub seq: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Placed,
    Assigned,
    PickedUp,
    Delivered,
    Cancelled,
}

/// Why an order refuses a change. It stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", explain(self.code()))]
pub enum Refusal {
    Delivered,
    Cancelled,
    AlreadyAssigned,
    NotAssigned,
    AnotherDriver,
    AlreadyPickedUp,
    NotPickedUp,
    TooManyProblems,
}

/// Whose intent it is, and when it is judged.
#[derive(Clone, Debug)]
pub struct Act {
    pub driver_id: DriverId,
    pub intent: IntentStamp,
    pub at_ms: i64,
}

/// Each report changes the order's version. Without a limit, a device that repeats itself would fail every `If-Match` of an
/// operator.
const MAX_PROBLEMS: u32 = 20;

impl Order {
    /// The caller checks that the user exists.
    pub fn place(
        id: OrderId,
        user_id: UserId,
        amount: Amount,
        currency: Currency,
        at_ms: i64,
    ) -> OrderEvent {
        OrderEvent::Placed(OrderPlaced {
            order_id: id,
            user_id,
            amount_minor: amount.minor(),
            currency: currency.into(),
            version: Version::FIRST,
            at_ms: Some(at_ms),
        })
    }

    /// To a driver, or from one to another. The caller checks that the driver may deliver.
    pub fn assign(&self, driver_id: DriverId, at_ms: i64) -> Result<OrderEvent, Refusal> {
        self.open()?;
        if self.driver_id == Some(driver_id) {
            return Err(Refusal::AlreadyAssigned);
        }
        Ok(OrderEvent::Assigned(OrderAssigned {
            order_id: self.id,
            driver_id,
            previous_driver_id: self.driver_id,
            version: self.version.next(),
            at_ms,
        }))
    }

    /// Takes it from its driver. It waits for another.
    pub fn release(&self, reason: ReleaseReason, at_ms: i64) -> Result<OrderEvent, Refusal> {
        self.open()?;
        Ok(OrderEvent::Released(OrderReleased {
            order_id: self.id,
            driver_id: self.driver_id.ok_or(Refusal::NotAssigned)?,
            reason,
            version: self.version.next(),
            at_ms,
        }))
    }

    pub fn cancel(
        &self,
        reason: CancelReason,
        note: Option<Note>,
        at_ms: i64,
    ) -> Result<OrderEvent, Refusal> {
        self.open()?;
        Ok(OrderEvent::Cancelled(OrderCancelled {
            order_id: self.id,
            reason,
            note: note.map(Note::into),
            version: self.version.next(),
            at_ms,
        }))
    }

    pub fn pick_up(&self, act: Act) -> Result<OrderEvent, Refusal> {
        self.with(act.driver_id)?;
        if self.status == Status::PickedUp {
            return Err(Refusal::AlreadyPickedUp);
        }
        Ok(OrderEvent::PickedUp(OrderPickedUp {
            order_id: self.id,
            driver_id: act.driver_id,
            version: self.version.next(),
            intent: act.intent,
            at_ms: act.at_ms,
        }))
    }

    pub fn deliver(&self, act: Act, note: Option<Note>) -> Result<OrderEvent, Refusal> {
        self.with(act.driver_id)?;
        if self.status != Status::PickedUp {
            return Err(Refusal::NotPickedUp);
        }
        Ok(self.delivered(act, note, false))
    }

    /// Accepts a delivery that was in conflict: an operator decided so.
    pub fn uphold(&self, act: Act, note: Option<Note>) -> Result<OrderEvent, Refusal> {
        match self.status {
            Status::Delivered => Err(Refusal::Delivered),
            _ => Ok(self.delivered(act, note, true)),
        }
    }

    pub fn report_problem(
        &self,
        act: Act,
        problem: ProblemKind,
        note: Option<Note>,
    ) -> Result<OrderEvent, Refusal> {
        self.with(act.driver_id)?;
        if self.problems >= MAX_PROBLEMS {
            return Err(Refusal::TooManyProblems);
        }
        Ok(OrderEvent::ProblemReported(OrderProblemReported {
            order_id: self.id,
            driver_id: act.driver_id,
            problem,
            note: note.map(Note::into),
            version: self.version.next(),
            intent: act.intent,
            at_ms: act.at_ms,
        }))
    }

    fn delivered(&self, act: Act, note: Option<Note>, upheld: bool) -> OrderEvent {
        OrderEvent::Delivered(OrderDelivered {
            order_id: self.id,
            driver_id: act.driver_id,
            note: note.map(Note::into),
            version: self.version.next(),
            intent: act.intent,
            upheld,
            at_ms: act.at_ms,
        })
    }

    /// Applies an event of this order: when it is emitted, and again when it is imported.
    pub fn apply(&mut self, event: &OrderEvent) {
        let by_device = match event {
            OrderEvent::Assigned(assigned) => {
                (self.status, self.driver_id) = (Status::Assigned, Some(assigned.driver_id));
                false
            }
            OrderEvent::Released(_) => {
                (self.status, self.driver_id) = (Status::Placed, None);
                false
            }
            OrderEvent::Cancelled(cancelled) => {
                self.status = Status::Cancelled;
                self.note.clone_from(&cancelled.note);
                self.cancel_reason = Some(cancelled.reason.as_str().to_owned());
                false
            }
            OrderEvent::PickedUp(_) => {
                self.status = Status::PickedUp;
                true
            }
            OrderEvent::Delivered(delivered) => {
                (self.status, self.driver_id) = (Status::Delivered, Some(delivered.driver_id));
                self.note.clone_from(&delivered.note);
                self.cancel_reason = None;
                !delivered.upheld
            }
            OrderEvent::ProblemReported(_) => {
                self.problems += 1;
                true
            }
            _ => true, // a refusal or a decision of an older log, which changed the version alone
        };
        self.version = event.version();
        self.changed_at_ms = event.at_ms().unwrap_or(self.changed_at_ms);
        if !by_device {
            self.owner_version = self.version;
        }
    }

    fn open(&self) -> Result<(), Refusal> {
        match self.status {
            Status::Delivered => Err(Refusal::Delivered),
            Status::Cancelled => Err(Refusal::Cancelled),
            Status::Placed | Status::Assigned | Status::PickedUp => Ok(()),
        }
    }

    /// Open, and assigned to this driver.
    fn with(&self, driver_id: DriverId) -> Result<(), Refusal> {
        self.open()?;
        match self.driver_id {
            Some(other) if other == driver_id => Ok(()),
            Some(_) => Err(Refusal::AnotherDriver),
            None => Err(Refusal::NotAssigned),
        }
    }
}

impl Refusal {
    /// Stable: programs compare it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Delivered => "order_delivered",
            Self::Cancelled => "order_cancelled",
            Self::AlreadyAssigned => "already_assigned",
            Self::NotAssigned => "not_assigned",
            Self::AnotherDriver => "another_driver",
            Self::AlreadyPickedUp => "already_picked_up",
            Self::NotPickedUp => "not_picked_up",
            Self::TooManyProblems => "too_many_problems",
        }
    }
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Assigned => "assigned",
            Self::PickedUp => "picked_up",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use event_schema::{DeviceId, IncarnationId, IntentId};

    use super::*;

    const ALL: [Status; 5] = [
        Status::Placed,
        Status::Assigned,
        Status::PickedUp,
        Status::Delivered,
        Status::Cancelled,
    ];

    pub(in crate::domain) fn order(status: Status, driver_id: Option<DriverId>) -> Order {
        let version = Version::FIRST.next();
        Order {
            id: OrderId::new(),
            user_id: UserId::new(),
            amount: Amount::try_from(1999).unwrap(),
            currency: "EUR".to_owned(),
            status,
            driver_id,
            note: None,
            cancel_reason: None,
            problems: 0,
            version,
            owner_version: version,
            created_at_ms: 7,
            changed_at_ms: 8,
            seq: 1,
        }
    }

    pub(in crate::domain) fn act(driver_id: DriverId) -> Act {
        Act {
            driver_id,
            intent: IntentStamp {
                intent_id: IntentId::new(),
                device_id: DeviceId::new(),
                incarnation: IncarnationId::new(),
                seq: 1,
                device_time_ms: 0,
            },
            at_ms: 9,
        }
    }

    #[test]
    fn the_event_of_a_placed_order_is_complete() {
        let (id, user_id) = (OrderId::new(), UserId::new());
        let amount = Amount::try_from(1999).unwrap();
        let event = Order::place(id, user_id, amount, "EUR".parse().unwrap(), 7);
        let expected = OrderPlaced {
            order_id: id,
            user_id,
            amount_minor: 1999,
            currency: "EUR".to_owned(),
            version: Version::FIRST,
            at_ms: Some(7),
        };
        assert_eq!(event, OrderEvent::Placed(expected));
    }

    /// Every status against every change: which are possible, and why the others are not.
    #[test]
    fn an_order_refuses_every_other_step() {
        use Refusal as R;
        use Status as S;
        let mia = DriverId::new();
        let refusals = |status: S| {
            let driver = (status != S::Placed).then_some(mia);
            let order = order(status, driver);
            [
                order.assign(mia, 9).err(),
                order.assign(DriverId::new(), 9).err(),
                order.release(ReleaseReason::Unassigned, 9).err(),
                order.cancel(CancelReason::OutOfStock, None, 9).err(),
                order.pick_up(act(mia)).err(),
                order.deliver(act(mia), None).err(),
                order
                    .report_problem(act(mia), ProblemKind::Damaged, None)
                    .err(),
            ]
        };
        let no = Some(R::NotAssigned);
        assert_eq!(
            refusals(S::Placed),
            [None, None, no, None, no, no, no],
            "placed"
        );
        let mine = Some(R::AlreadyAssigned);
        assert_eq!(
            refusals(S::Assigned),
            [mine, None, None, None, None, Some(R::NotPickedUp), None]
        );
        assert_eq!(
            refusals(S::PickedUp),
            [mine, None, None, None, Some(R::AlreadyPickedUp), None, None]
        );
        assert_eq!(refusals(S::Delivered), [Some(R::Delivered); 7]);
        assert_eq!(refusals(S::Cancelled), [Some(R::Cancelled); 7]);
    }

    #[test]
    fn an_order_refuses_a_driver_it_is_not_assigned_to() {
        let (mia, noor) = (DriverId::new(), DriverId::new());
        for status in [Status::Assigned, Status::PickedUp] {
            let order = order(status, Some(mia));
            assert_eq!(order.deliver(act(noor), None), Err(Refusal::AnotherDriver));
            assert_eq!(order.pick_up(act(noor)), Err(Refusal::AnotherDriver));
        }
    }

    #[test]
    fn an_assignment_names_the_driver_before_and_the_next_version() {
        let (mia, noor) = (DriverId::new(), DriverId::new());
        let order = order(Status::PickedUp, Some(mia));
        let Ok(OrderEvent::Assigned(assigned)) = order.assign(noor, 9) else {
            panic!("a driver may hand an order on");
        };
        assert_eq!(assigned.previous_driver_id, Some(mia));
        assert_eq!(assigned.version, order.version.next());
    }

    #[test]
    fn every_order_but_a_delivered_one_can_be_upheld() {
        let mia = DriverId::new();
        for status in ALL {
            let upheld = order(status, Some(mia)).uphold(act(mia), None);
            assert_eq!(upheld.is_ok(), status != Status::Delivered, "{status:?}");
        }
    }

    #[test]
    fn a_status_is_its_text() {
        for status in ALL {
            let text = serde_json::json!(status.as_str());
            assert_eq!(serde_json::from_value::<Status>(text).unwrap(), status);
        }
        assert!(serde_json::from_str::<Status>("\"lost\"").is_err());
    }
}
