//! Repairs: writes the expected value of an attribute, conditional on the values it was computed
//! from.

use aws_sdk_dynamodb::types::AttributeValue;
use chat_shared::{
    Error,
    store::items::{CHANGES, ItemKey, ItemKind},
};

use super::{
    Checker, MAX_ATTEMPTS,
    violation::{Finding, Value, Violation},
};
use crate::table::{UpdateOutcome, error_cause};

impl Checker<'_> {
    /// Repairs one attribute. When the item changes at the same time, evaluates it again and repeats
    /// the repair with the new values. A write that fails ends up in the violation, so that the check
    /// goes on.
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
            let written = self
                .write_expected(&violation.key, attribute, actual, expected, based_on)
                .await;
            match written {
                Ok(true) => {
                    violation.repaired = true;
                    return Ok(());
                }
                Ok(false) => {}
                Err(error) => {
                    violation.repair_error = Some(error_cause(&error));
                    return Ok(());
                }
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

    /// Writes `expected`, or removes the attribute, if the item still has the values that `expected` was
    /// computed from. Returns whether the item now has the expected value.
    async fn write_expected(
        &self,
        key: &ItemKey,
        attribute: &str,
        actual: &Value,
        expected: &Value,
        based_on: &[(&'static str, Value)],
    ) -> Result<bool, Error> {
        let Some(kind) = ItemKind::of(key) else {
            return Ok(false);
        };
        let new_value = expected.to_attribute();
        let placeholders: Vec<_> = (0..based_on.len())
            .map(|index| (format!("#basis{index}"), format!(":basis{index}")))
            .collect();
        let mut names = vec![("#attribute", attribute), ("#type", "type")];
        // A repair may create a counter, so it writes the type, too.
        let entity_type = AttributeValue::S(kind.entity_type().to_owned());
        let mut values = vec![(":type", entity_type)];
        let mut update = if let Some(new_value) = &new_value {
            values.push((":expected", new_value.clone()));
            "SET #attribute = :expected, #type = :type".to_owned()
        } else {
            "SET #type = :type REMOVE #attribute".to_owned()
        };
        if matches!(kind, ItemKind::Totals | ItemKind::OpenRequests) {
            // Clients take the totals with the higher version.
            update.push_str(" ADD #changes :one");
            names.push(("#changes", CHANGES));
            values.push((":one", AttributeValue::N("1".to_owned())));
        }
        let mut condition = match actual.to_attribute() {
            None => "attribute_not_exists(#attribute)".to_owned(),
            Some(old_value) => {
                values.push((":actual", old_value));
                "#attribute = :actual".to_owned()
            }
        };
        if *actual == Value::Number(0) {
            // A counter that was never written counts as 0.
            condition = format!("({condition} OR attribute_not_exists(#attribute))");
        }
        for ((name, value), (basis, basis_value)) in placeholders.iter().zip(based_on) {
            names.push((name.as_str(), *basis));
            if let Some(basis_value) = basis_value.to_attribute() {
                condition = format!("{condition} AND {name} = {value}");
                values.push((value.as_str(), basis_value));
            } else {
                condition = format!("{condition} AND attribute_not_exists({name})");
            }
        }
        let outcome = self
            .table
            .update(key, &update, &condition, &names, values)
            .await?;
        Ok(match outcome {
            UpdateOutcome::Applied => true,
            // An earlier attempt whose response was lost may have written the value.
            UpdateOutcome::Rejected(item) => {
                item.is_some_and(|item| item.get(attribute) == new_value.as_ref())
            }
        })
    }
}
