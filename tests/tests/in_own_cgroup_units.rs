//! Units that `rbox generate systemd` makes, run by the systemd of an ordinary user.

rbox_tests::units_in_the_hands_of_systemd!();
