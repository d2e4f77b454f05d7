//! Repairs: writes the expected value of an attribute, conditional on the values it was computed
//! from.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use chat_shared::{
    Error,
    store::items::{ChatItem, ItemKey, OpenRequestsItem, TotalsItem},
};

use super::{
    Checker, MAX_ATTEMPTS,
    violation::{Finding, Value, Violation},
};

/// Time after which the check gives up one attempt at a repair.
const REPAIR_TIMEOUT: Duration = Duration::from_mins(1);

impl Checker<'_> {
    /// Repairs one attribute. When the item changes at the same time, evaluates it again and repeats
    /// the repair with the new values.
    pub(super) async fn repair(
        &self,
        violation: &mut Violation,
        evaluate: &impl AsyncFn() -> Result<Vec<Violation>, Error>,
    ) -> Result<(), Error> {
        for _ in 0..MAX_ATTEMPTS {
            let Finding::Mismatch {
                attribute,
                actual,
                expected,
                based_on,
            } = &violation.finding
            else {
                return Ok(());
            };
            if self
                .write_expected(&violation.key, attribute, actual, expected, based_on)
                .await
            {
                violation.repaired = true;
                return Ok(());
            }
            let violations = evaluate().await?;
            match violations
                .into_iter()
                .find(|again| again.is_same_as(violation))
            {
                Some(again) => *violation = again,
                // The item has changed and no longer has this violation. It stays reported as not
                // repaired; the next check evaluates it again.
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Writes `expected` if the item still has the values that it was computed from. Returns whether
    /// the write took effect. A failed write is no error: the violation stays reported as not
    /// repaired.
    async fn write_expected(
        &self,
        key: &ItemKey,
        attribute: &str,
        actual: &Value,
        expected: &Value,
        based_on: &[(&'static str, Value)],
    ) -> bool {
        let mut condition = "#attribute = :actual".to_owned();
        if *actual == Value::Number(0) {
            // A counter that was never written counts as 0.
            condition = format!("({condition} OR attribute_not_exists(#attribute))");
        }
        let placeholders: Vec<_> = (0..based_on.len())
            .map(|index| (format!("#basis{index}"), format!(":basis{index}")))
            .collect();
        let mut names = vec![("#attribute", attribute), ("#type", "type")];
        let mut values = vec![
            (":actual", actual.to_attribute()),
            (":expected", expected.to_attribute()),
            (":type", AttributeValue::S(entity_type(key).to_owned())),
        ];
        for ((name, value), (basis, basis_value)) in placeholders.iter().zip(based_on) {
            condition = format!("{condition} AND {name} = {value}");
            names.push((name.as_str(), *basis));
            values.push((value.as_str(), basis_value.to_attribute()));
        }
        let update = self.store.update(
            key.clone(),
            "SET #attribute = :expected, #type = :type",
            Some(&condition),
            &names,
            values,
        );
        let outcome = tokio::time::timeout(REPAIR_TIMEOUT, self.store.transact(vec![update])).await;
        matches!(outcome, Ok(Ok(Ok(()))))
    }
}

/// The entity type of a repaired item. The repair writes it, because it may create a counter.
fn entity_type(key: &ItemKey) -> &'static str {
    if OpenRequestsItem::matches_key(key) {
        OpenRequestsItem::ENTITY_TYPE
    } else if key.sk.starts_with(TotalsItem::SK_PREFIX) {
        TotalsItem::ENTITY_TYPE
    } else {
        ChatItem::ENTITY_TYPE
    }
}
