//go:build race

package broker

// raceDetector takes what one side writes and the other then reads as an order between them, which it can only see in
// ordinary calls.
const raceDetector = true
